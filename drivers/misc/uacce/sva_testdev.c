// SPDX-License-Identifier: GPL-2.0-only
/*
 * Driver for sva-testdev, the function that QEMU models to test Shared Virtual
 * Addressing. A process opens the character device and owns a queue: the
 * driver gives the queue the PASID of the process's address space, and the
 * process drives it through the one page of registers it may map.
 */
#include <linux/bitmap.h>
#include <linux/delay.h>
#include <linux/interrupt.h>
#include <linux/iommu.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/spinlock.h>
#include <linux/uacce.h>
#include <linux/workqueue.h>

#include <uapi/misc/uacce/sva_testdev.h>

#define SVATD_MAX_VECTORS	64
/* How long a process waits for its own queue, and removal for all */
#define SVATD_OWN_QUIESCE_MS	1000
#define SVATD_QUIESCE_MS	5000
/* How often to look after those for which nobody waits */
#define SVATD_ENDING_MS		20
/* Pages of the region that is memory alone */
#define SVATD_DUS_PAGES		2

struct sva_testdev;

/**
 * struct sva_testdev_queue - a hardware queue
 * @td: device that it belongs to
 * @mm: address space of its owner, with a reference of mmgrab() until the queue
 *	is at rest. That keeps the PASID from being given to somebody else.
 * @uq: whom to wake while started, NULL otherwise. Protected by &sva_testdev.lock.
 * @pasid: PASID of @mm
 */
struct sva_testdev_queue {
	struct sva_testdev *td;
	struct mm_struct *mm;
	struct uacce_queue *uq;
	u32 pasid;
};

/**
 * struct sva_testdev - the device
 * @pdev: PCI function
 * @uacce: its character device
 * @ctrl: control page
 * @pages: queue pages
 * @num_queues: number of queues
 * @num_vectors: number of MSI-X vectors; queue q uses q % @num_vectors
 * @lock: protects &sva_testdev_queue.uq, @used and @ending
 * @used: queues that are somebody's
 * @ending: those that were closed and have yet to come to rest
 * @end_work: looks after them
 * @queues: the queues
 */
struct sva_testdev {
	struct pci_dev *pdev;
	struct uacce_device *uacce;
	void __iomem *ctrl;
	void __iomem *pages;
	unsigned int num_queues;
	unsigned int num_vectors;
	/* Orders the interrupt handler's wake-up against the end of a queue */
	spinlock_t lock;
	DECLARE_BITMAP(used, SVATD_MAX_QUEUES);
	DECLARE_BITMAP(ending, SVATD_MAX_QUEUES);
	struct delayed_work end_work;
	struct sva_testdev_queue queues[SVATD_MAX_QUEUES];
};

static unsigned int queue_id(const struct sva_testdev_queue *queue)
{
	return queue - queue->td->queues;
}

static void __iomem *queue_ctrl(const struct sva_testdev_queue *queue)
{
	return queue->td->ctrl + SVATD_QCTL(queue_id(queue));
}

static int sva_testdev_get_available_instances(struct uacce_device *uacce)
{
	struct sva_testdev *td = uacce->priv;

	return td->num_queues - bitmap_weight(td->used, td->num_queues);
}

/*
 * A queue that was disabled sends no new access, and is at rest unless the SMMU
 * holds one: until its page fault is served, or the last bond of the address
 * space is gone. Both take as long as user space likes, the former only.
 */
static bool sva_testdev_at_rest(const struct sva_testdev_queue *queue)
{
	return !readl(queue_ctrl(queue) + SVATD_QCTL_STATE);
}

static bool sva_testdev_wait(const struct sva_testdev_queue *queue,
			     unsigned int ms, bool killable)
{
	unsigned long end = jiffies + msecs_to_jiffies(ms);

	while (!sva_testdev_at_rest(queue)) {
		if (time_after(jiffies, end) ||
		    (killable && fatal_signal_pending(current)))
			return sva_testdev_at_rest(queue);
		usleep_range(100, 1000);
	}
	return true;
}

static int sva_testdev_get_queue(struct uacce_device *uacce, unsigned long pasid,
				 struct uacce_queue *q)
{
	struct sva_testdev *td = uacce->priv;
	struct sva_testdev_queue *queue;
	unsigned int id;

	spin_lock_irq(&td->lock);
	id = find_first_zero_bit(td->used, td->num_queues);
	if (id < td->num_queues)
		__set_bit(id, td->used);
	spin_unlock_irq(&td->lock);
	if (id >= td->num_queues)
		return -EBUSY;

	queue = &td->queues[id];
	queue->mm = current->mm;
	mmgrab(queue->mm);
	queue->pasid = pasid;
	q->priv = queue;
	return 0;
}

static void sva_testdev_free_queue(struct sva_testdev_queue *queue)
{
	struct sva_testdev *td = queue->td;
	struct mm_struct *mm = queue->mm;

	queue->mm = NULL;
	spin_lock_irq(&td->lock);
	__clear_bit(queue_id(queue), td->ending);
	__clear_bit(queue_id(queue), td->used);
	spin_unlock_irq(&td->lock);
	mmdrop(mm);
}

static void sva_testdev_end_work(struct work_struct *work)
{
	struct sva_testdev *td = container_of(to_delayed_work(work),
					      struct sva_testdev, end_work);
	bool more = false;
	unsigned int id;

	for_each_set_bit(id, td->ending, td->num_queues) {
		if (sva_testdev_at_rest(&td->queues[id]))
			sva_testdev_free_queue(&td->queues[id]);
		else
			more = true;
	}
	if (more)
		schedule_delayed_work(&td->end_work,
				      msecs_to_jiffies(SVATD_ENDING_MS));
}

/*
 * uacce unbinds the PASID after this. If that was the address space's last bond,
 * the SMMU ends what it holds; if another queue has one, what it holds is still
 * served. Either way the queue is nobody else's before it is at rest.
 */
static void sva_testdev_put_queue(struct uacce_queue *q)
{
	struct sva_testdev_queue *queue = q->priv;
	struct sva_testdev *td = queue->td;

	if (sva_testdev_at_rest(queue)) {
		sva_testdev_free_queue(queue);
		return;
	}

	spin_lock_irq(&td->lock);
	__set_bit(queue_id(queue), td->ending);
	spin_unlock_irq(&td->lock);
	schedule_delayed_work(&td->end_work, msecs_to_jiffies(SVATD_ENDING_MS));
}

static int sva_testdev_start_queue(struct uacce_queue *q)
{
	struct sva_testdev_queue *queue = q->priv;
	void __iomem *ctrl = queue_ctrl(queue);
	struct sva_testdev *td = queue->td;

	/* Stopped and started again */
	if (!sva_testdev_wait(queue, SVATD_OWN_QUIESCE_MS, true))
		return -EBUSY;

	spin_lock_irq(&td->lock);
	queue->uq = q;
	spin_unlock_irq(&td->lock);

	writel(queue->pasid, ctrl + SVATD_QCTL_PASID);
	writel(queue_id(queue) % td->num_vectors, ctrl + SVATD_QCTL_VECTOR);
	writel(SVATD_QCTL_CTL_ENABLE | SVATD_QCTL_CTL_PASID,
	       ctrl + SVATD_QCTL_CTL);
	return 0;
}

static void sva_testdev_stop_queue(struct uacce_queue *q)
{
	struct sva_testdev_queue *queue = q->priv;
	struct sva_testdev *td = queue->td;

	writel(SVATD_QCTL_CTL_PASID, queue_ctrl(queue) + SVATD_QCTL_CTL);
	/*
	 * To the owner, the device has done with its memory once the call
	 * returns. Nobody else waits for faults in it.
	 */
	if (current->mm == queue->mm && !(current->flags & PF_EXITING))
		sva_testdev_wait(queue, SVATD_OWN_QUIESCE_MS, true);

	spin_lock_irq(&td->lock);
	queue->uq = NULL;
	spin_unlock_irq(&td->lock);

	/* That ended what the queue ran, be it with an interrupt or without */
	wake_up_interruptible(&q->wait);
}

static int sva_testdev_is_q_updated(struct uacce_queue *q)
{
	struct sva_testdev_queue *queue = q->priv;
	struct sva_testdev *td = queue->td;

	return !!readl(td->pages + queue_id(queue) * SVATD_QUEUE_STRIDE +
		       SVATD_Q_DONE);
}

/* Memory that the device knows nothing of: a region of more than one page */
static int sva_testdev_mmap_dus(struct vm_area_struct *vma)
{
	unsigned long addr;
	struct page *page;
	int ret;

	if (vma_pages(vma) != SVATD_DUS_PAGES)
		return -EINVAL;
	for (addr = vma->vm_start; addr < vma->vm_end; addr += PAGE_SIZE) {
		page = alloc_page(GFP_KERNEL_ACCOUNT | __GFP_ZERO);
		if (!page)
			return -ENOMEM;
		ret = vm_insert_page(vma, addr, page);
		/* The mapping has it, or nobody */
		put_page(page);
		if (ret)
			return ret;
	}
	return 0;
}

static int sva_testdev_mmap(struct uacce_queue *q, struct vm_area_struct *vma,
			    struct uacce_qfile_region *qfr)
{
	struct sva_testdev_queue *queue = q->priv;
	phys_addr_t addr = pci_resource_start(queue->td->pdev, SVATD_BAR_QUEUES) +
			   queue_id(queue) * SVATD_QUEUE_STRIDE;

	if (qfr->type == UACCE_QFRT_DUS)
		return sva_testdev_mmap_dus(vma);
	if (vma_pages(vma) != 1 || !(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	/*
	 * The queue reaches its owner's memory. Whoever got hold of the file, a
	 * forked child or the receiver of a descriptor, must not drive it.
	 */
	if (vma->vm_mm != queue->mm || (vma->vm_flags & VM_EXEC))
		return -EPERM;

	vm_flags_mod(vma, VM_DONTDUMP, VM_MAYEXEC);
	vma->vm_page_prot = pgprot_noncached(vma->vm_page_prot);
	return io_remap_pfn_range(vma, vma->vm_start, PHYS_PFN(addr), PAGE_SIZE,
				  vma->vm_page_prot);
}

static const struct uacce_ops sva_testdev_ops = {
	.get_available_instances = sva_testdev_get_available_instances,
	.get_queue = sva_testdev_get_queue,
	.put_queue = sva_testdev_put_queue,
	.start_queue = sva_testdev_start_queue,
	.stop_queue = sva_testdev_stop_queue,
	.is_q_updated = sva_testdev_is_q_updated,
	.mmap = sva_testdev_mmap,
};

/*
 * The device sets DONE before it sends the message, and poll() puts itself on
 * the wait queue before it reads DONE: one of the two sees the other.
 */
static irqreturn_t sva_testdev_irq(int irq, void *data)
{
	struct sva_testdev_queue *first = data;
	struct sva_testdev *td = first->td;
	unsigned int id;

	spin_lock(&td->lock);
	for (id = queue_id(first); id < td->num_queues; id += td->num_vectors)
		if (td->queues[id].uq)
			wake_up_interruptible(&td->queues[id].uq->wait);
	spin_unlock(&td->lock);
	return IRQ_HANDLED;
}

static int sva_testdev_init_irqs(struct sva_testdev *td)
{
	struct pci_dev *pdev = td->pdev;
	int nvec, i, ret;

	nvec = pci_alloc_irq_vectors(pdev, 1, min(td->num_queues, SVATD_MAX_VECTORS),
				     PCI_IRQ_MSIX);
	if (nvec < 0)
		return dev_err_probe(&pdev->dev, nvec, "no MSI-X vectors\n");
	td->num_vectors = nvec;

	for (i = 0; i < nvec; i++) {
		ret = devm_request_irq(&pdev->dev, pci_irq_vector(pdev, i),
				       sva_testdev_irq, 0, "sva_testdev",
				       &td->queues[i]);
		if (ret)
			return dev_err_probe(&pdev->dev, ret,
					     "no interrupt for vector %d\n", i);
	}
	return 0;
}

static int sva_testdev_map(struct sva_testdev *td)
{
	struct pci_dev *pdev = td->pdev;
	u32 id, version, caps;

	if (pci_resource_len(pdev, SVATD_BAR_CTRL) < SVATD_CTRL_SIZE)
		return dev_err_probe(&pdev->dev, -ENODEV, "no control page\n");
	td->ctrl = pcim_iomap_region(pdev, SVATD_BAR_CTRL, "sva_testdev");
	if (IS_ERR(td->ctrl))
		return PTR_ERR(td->ctrl);

	id = readl(td->ctrl + SVATD_ID);
	version = readl(td->ctrl + SVATD_VERSION);
	if (id != SVATD_ID_VALUE || version != SVATD_VERSION_VALUE)
		return dev_err_probe(&pdev->dev, -ENODEV,
				     "unknown device: id %#x version %u\n", id,
				     version);
	caps = readl(td->ctrl + SVATD_CAPS);
	td->num_queues = caps & SVATD_CAPS_QUEUES;
	if (!td->num_queues || td->num_queues > SVATD_MAX_QUEUES ||
	    pci_resource_len(pdev, SVATD_BAR_QUEUES) <
		    (resource_size_t)td->num_queues * SVATD_QUEUE_STRIDE)
		return dev_err_probe(&pdev->dev, -ENODEV, "bad queues: %u\n",
				     td->num_queues);

	td->pages = pcim_iomap_region(pdev, SVATD_BAR_QUEUES, "sva_testdev");
	return PTR_ERR_OR_ZERO(td->pages);
}

static int sva_testdev_probe(struct pci_dev *pdev,
			     const struct pci_device_id *id)
{
	struct uacce_interface interface = {
		.name = "sva_testdev",
		.flags = UACCE_DEV_SVA,
		.ops = &sva_testdev_ops,
	};
	struct device *dev = &pdev->dev;
	struct uacce_device *uacce;
	struct sva_testdev *td;
	unsigned int i;
	int ret;

	/* What both the function and its IOMMU have */
	if (!device_iommu_mapped(dev) ||
	    dev->iommu->max_pasids <= IOMMU_FIRST_GLOBAL_PASID)
		return dev_err_probe(dev, -ENODEV,
				     "no PASID: both the device and its IOMMU need it\n");

	td = devm_kzalloc(dev, sizeof(*td), GFP_KERNEL);
	if (!td)
		return -ENOMEM;
	td->pdev = pdev;
	spin_lock_init(&td->lock);
	INIT_DELAYED_WORK(&td->end_work, sva_testdev_end_work);
	for (i = 0; i < SVATD_MAX_QUEUES; i++)
		td->queues[i].td = td;

	ret = pcim_enable_device(pdev);
	if (ret)
		return ret;
	ret = dma_set_mask_and_coherent(dev, DMA_BIT_MASK(64));
	if (ret)
		return ret;
	ret = sva_testdev_map(td);
	if (ret)
		return ret;
	/* Whoever had the function before may have left queues enabled */
	for (i = 0; i < td->num_queues; i++) {
		writel(SVATD_QCTL_CTL_PASID,
		       queue_ctrl(&td->queues[i]) + SVATD_QCTL_CTL);
		if (!sva_testdev_wait(&td->queues[i], SVATD_QUIESCE_MS, false))
			return dev_err_probe(dev, -EBUSY,
					     "queue %u does not come to rest\n", i);
	}
	ret = sva_testdev_init_irqs(td);
	if (ret)
		return ret;

	uacce = uacce_alloc(dev, &interface);
	if (IS_ERR(uacce))
		return PTR_ERR(uacce);
	td->uacce = uacce;
	uacce->priv = td;
	uacce->algs = "copy\nfill\ncompare\natomic\npoll\nhammer\n";
	uacce->api_ver = "sva_testdev_v1";
	uacce->qf_pg_num[UACCE_QFRT_MMIO] = 1;
	uacce->qf_pg_num[UACCE_QFRT_DUS] = SVATD_DUS_PAGES;
	pci_set_drvdata(pdev, td);
	pci_set_master(pdev);
	/* For sva_testdev_slot_reset() */
	pci_save_state(pdev);

	ret = uacce_register(uacce);
	if (ret) {
		uacce_remove(uacce);
		return dev_err_probe(dev, ret, "no character device\n");
	}
	return 0;
}

static void sva_testdev_remove(struct pci_dev *pdev)
{
	struct sva_testdev *td = pci_get_drvdata(pdev);
	unsigned int id;

	/* Stops and unbinds every queue, and takes its mappings away */
	uacce_remove(td->uacce);

	/* No bond is left, so the SMMU holds nothing for long */
	cancel_delayed_work_sync(&td->end_work);
	for_each_set_bit(id, td->ending, td->num_queues) {
		if (sva_testdev_wait(&td->queues[id], SVATD_QUIESCE_MS, false))
			sva_testdev_free_queue(&td->queues[id]);
		else
			dev_err(&pdev->dev,
				"queue %u does not come to rest, PASID %u stays in use\n",
				id, td->queues[id].pasid);
	}
	pci_clear_master(pdev);
}

static pci_ers_result_t sva_testdev_error_detected(struct pci_dev *pdev,
						   pci_channel_state_t state)
{
	switch (state) {
	case pci_channel_io_normal:
		return PCI_ERS_RESULT_CAN_RECOVER;
	case pci_channel_io_frozen:
		return PCI_ERS_RESULT_NEED_RESET;
	default:
		return PCI_ERS_RESULT_DISCONNECT;
	}
}

/*
 * The bus was reset, and all queues are disabled: like after any reset, their
 * owners start them again
 */
static pci_ers_result_t sva_testdev_slot_reset(struct pci_dev *pdev)
{
	pci_restore_state(pdev);
	return PCI_ERS_RESULT_RECOVERED;
}

static const struct pci_error_handlers sva_testdev_err_handlers = {
	.error_detected = sva_testdev_error_detected,
	.slot_reset = sva_testdev_slot_reset,
};

static const struct pci_device_id sva_testdev_ids[] = {
	{ PCI_DEVICE(SVATD_PCI_VENDOR_ID, SVATD_PCI_DEVICE_ID) },
	{ }
};
MODULE_DEVICE_TABLE(pci, sva_testdev_ids);

static struct pci_driver sva_testdev_driver = {
	.name = "sva_testdev",
	.id_table = sva_testdev_ids,
	.probe = sva_testdev_probe,
	.remove = sva_testdev_remove,
	.err_handler = &sva_testdev_err_handlers,
};
module_pci_driver(sva_testdev_driver);

MODULE_DESCRIPTION("QEMU test device for Shared Virtual Addressing");
MODULE_LICENSE("GPL");

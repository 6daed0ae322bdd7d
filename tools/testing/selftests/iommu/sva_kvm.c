// SPDX-License-Identifier: GPL-2.0-only
/*
 * Virtual machines beside Shared Virtual Addressing. An SMMU that obeys the CPUs'
 * broadcast TLB maintenance also hears that of KVM and of its guests. It must
 * not lose what the host's TLBIs say among them; and what it forgets for nothing
 * is counted.
 *
 * A guest is a few instructions: it maps a page, reads it, unmaps it, and
 * executes the TLBI that it is told to and a DSB; then it looks whether the TLBI
 * was obeyed. A process, which is this one, is bound to the first sva-testdev.
 * Three more are given to vfio-pci: one has a stage 1 domain, one a stage 2
 * domain, and one a stage 1 of its own on top of that stage 2. All of them use
 * the addresses that the guests use.
 *
 * "sva_kvm beside COMMAND..." runs guests while the command runs.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/iommufd.h>
#include <linux/kvm.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "kselftest_harness.h"
#include "sva_kvm.h"
#include "sva_smmu.h"
#include "sva_testdev.h"
#include "sva_vfio.h"

/* How much a TLBI is for */
enum scope { ONE_PAGE, ALL_PAGES, NO_TLBI };

/* In the order of the code, and which CPUs have it: ID_AA64ISAR0_EL1.TLB */
static const struct guest_op {
	const char *name;
	enum scope scope;
	unsigned int isar0_tlb;
} ops[] = {
	{ "VAE1IS", ONE_PAGE, 0 }, { "VALE1IS", ONE_PAGE, 0 },
	{ "VAAE1IS", ONE_PAGE, 0 }, { "VAALE1IS", ONE_PAGE, 0 },
	{ "ASIDE1IS", ALL_PAGES, 0 }, { "VMALLE1IS", ALL_PAGES, 0 },
	{ "VAE1", ONE_PAGE, 0 }, { "VALE1", ONE_PAGE, 0 },
	{ "VAAE1", ONE_PAGE, 0 }, { "VAALE1", ONE_PAGE, 0 },
	{ "ASIDE1", ALL_PAGES, 0 }, { "VMALLE1", ALL_PAGES, 0 },
	{ "VAE1OS", ONE_PAGE, 1 }, { "VALE1OS", ONE_PAGE, 1 },
	{ "VAAE1OS", ONE_PAGE, 1 }, { "VAALE1OS", ONE_PAGE, 1 },
	{ "ASIDE1OS", ALL_PAGES, 1 }, { "VMALLE1OS", ALL_PAGES, 1 },
	{ "RVAE1IS", ONE_PAGE, 2 }, { "RVALE1IS", ONE_PAGE, 2 },
	{ "RVAAE1IS", ONE_PAGE, 2 }, { "RVAALE1IS", ONE_PAGE, 2 },
	{ "RVAE1", ONE_PAGE, 2 }, { "RVAE1OS", ONE_PAGE, 2 },
	{ "new ASIDs", NO_TLBI, 0 },
};

/* Guests that run all the time */
#define GUESTS		3

struct guest {
	int vm;
	int vcpu;
	struct kvm_run *run;
	int run_size;
	char *mem;
	unsigned int isar0_tlb;
	unsigned int vmid_bits;

	pthread_t thread;
	bool *stop;
	unsigned long done;	/* operations */
	const char *error;
};

static size_t page_size;

/*
 * Guests
 */
static bool set_reg(struct guest *g, __u64 id, __u64 value)
{
	struct kvm_one_reg reg = { .id = id, .addr = (unsigned long)&value };

	return !ioctl(g->vcpu, KVM_SET_ONE_REG, &reg);
}

static __u64 get_reg(struct guest *g, __u64 id)
{
	__u64 value = 0;
	struct kvm_one_reg reg = { .id = id, .addr = (unsigned long)&value };

	ioctl(g->vcpu, KVM_GET_ONE_REG, &reg);
	return value;
}

/* Stage 1 descriptors: valid, Access flag, Inner Shareable; memory is attribute 0 */
#define PTE_TABLE	0x3UL
#define PTE_PAGE	0x703UL
#define PTE_BLOCK	0x701UL
#define PTE_NG		0x800UL
#define PTE_DEVICE	0x4UL		/* attribute 1 */
#define PTE_AP_EL0	0x40UL

static void store64(char *mem, size_t offset, unsigned int index, __u64 value)
{
	__atomic_store_n((__u64 *)(mem + offset) + index, value, __ATOMIC_RELAXED);
}

static void guest_tables(struct guest *g)
{
	struct guest_ctrl *ctrl = (struct guest_ctrl *)(g->mem + GUEST_CTRL);
	unsigned int i;

	store64(g->mem, GUEST_L1, 1, (GUEST_RAM + GUEST_L2) | PTE_TABLE);
	store64(g->mem, GUEST_L2, 0, (GUEST_RAM + GUEST_L3) | PTE_TABLE);
	store64(g->mem, GUEST_L2, 1, (GUEST_RAM + GUEST_WINDOW_L3) | PTE_TABLE);
	store64(g->mem, GUEST_L2, 2, GUEST_MMIO | PTE_BLOCK | PTE_DEVICE);
	store64(g->mem, GUEST_L2, 3, (GUEST_RAM + GUEST_SPARE) | PTE_BLOCK);
	for (i = 0; i < GUEST_PAGES / GUEST_PAGE + 2; i++)
		store64(g->mem, GUEST_L3, i, (GUEST_RAM + i * GUEST_PAGE) | PTE_PAGE);
	store64(g->mem, GUEST_PAGES + GUEST_PAGE, 0, 1);
	ctrl->asid = 1;
	ctrl->pte = (GUEST_RAM + GUEST_PAGES) | PTE_PAGE | PTE_NG;
	ctrl->ttbr = GUEST_RAM + GUEST_L1;
}

static void guest_free(struct guest *g)
{
	if (g->run)
		munmap(g->run, g->run_size);
	if (g->vcpu >= 0)
		close(g->vcpu);
	if (g->vm >= 0)
		close(g->vm);
	/* In parts: for one of that size, all of this process's ASID would be invalidated */
	if (g->mem) {
		madvise(g->mem, GUEST_PAGES + 2 * GUEST_PAGE, MADV_DONTNEED);
		madvise(g->mem + GUEST_SPARE, WINDOW_PAGES * GUEST_PAGE, MADV_DONTNEED);
		munmap(g->mem, GUEST_SIZE);
	}
	*g = (struct guest) { .vm = -1, .vcpu = -1 };
}

/* NULL, or what failed, with errno */
static const char *guest_new(struct guest *g, int kvm)
{
	struct kvm_userspace_memory_region slot = {
		.guest_phys_addr = GUEST_RAM,
		.memory_size = GUEST_SIZE,
	};
	struct kvm_vcpu_init init;

	*g = (struct guest) { .vm = -1, .vcpu = -1 };
	g->vm = ioctl(kvm, KVM_CREATE_VM, 0);
	if (g->vm < 0)
		return "KVM_CREATE_VM";
	g->mem = mmap(NULL, GUEST_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (g->mem == MAP_FAILED) {
		g->mem = NULL;
		return "mmap";
	}
	memcpy(g->mem, sva_kvm_guest, sva_kvm_guest_end - sva_kvm_guest);
	__builtin___clear_cache(g->mem, g->mem + (sva_kvm_guest_end - sva_kvm_guest));
	guest_tables(g);
	slot.userspace_addr = (unsigned long)g->mem;
	if (ioctl(g->vm, KVM_SET_USER_MEMORY_REGION, &slot))
		return "KVM_SET_USER_MEMORY_REGION";
	g->vcpu = ioctl(g->vm, KVM_CREATE_VCPU, 0);
	if (g->vcpu < 0)
		return "KVM_CREATE_VCPU";
	if (ioctl(g->vm, KVM_ARM_PREFERRED_TARGET, &init) ||
	    ioctl(g->vcpu, KVM_ARM_VCPU_INIT, &init))
		return "KVM_ARM_VCPU_INIT";
	g->run_size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	g->run = mmap(NULL, g->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, g->vcpu, 0);
	if (g->run == MAP_FAILED) {
		g->run = NULL;
		return "mmap of the vCPU";
	}
	/* It starts with the MMU on: 39 bits of address, 4K pages, TTBR0 alone */
	if (!set_reg(g, ARM64_SYS_REG(3, 0, 2, 0, 0), (GUEST_RAM + GUEST_L1) | 1UL << 48) ||
	    !set_reg(g, ARM64_SYS_REG(3, 0, 2, 0, 2), 0x200803519UL) ||
	    !set_reg(g, ARM64_SYS_REG(3, 0, 10, 2, 0), 0xff) ||
	    !set_reg(g, ARM64_SYS_REG(3, 0, 12, 0, 0), GUEST_RAM + GUEST_VECTORS) ||
	    !set_reg(g, ARM64_SYS_REG(3, 0, 1, 0, 0), 0x30d01985) ||
	    !set_reg(g, KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE |
			KVM_REG_ARM_CORE_REG(regs.pc), GUEST_RAM))
		return "KVM_SET_ONE_REG";
	g->isar0_tlb = get_reg(g, ARM64_SYS_REG(3, 0, 0, 6, 0)) >> 56 & 0xf;
	g->vmid_bits = get_reg(g, ARM64_SYS_REG(3, 0, 0, 7, 1)) >> 4 & 0xf ? 16 : 8;
	return NULL;
}

/* Let the guest do one thing many times: NULL, or what went wrong */
static const char *guest_run(struct guest *g, unsigned int op, unsigned int count)
{
	struct guest_ctrl *ctrl = (struct guest_ctrl *)(g->mem + GUEST_CTRL);
	__u64 errors;

	ctrl->op = op;
	ctrl->count = count;
	while (ioctl(g->vcpu, KVM_RUN, 0))
		if (errno != EINTR)
			return "KVM_RUN";
	if (g->run->exit_reason != KVM_EXIT_MMIO || !g->run->mmio.is_write ||
	    g->run->mmio.phys_addr != GUEST_MMIO)
		return "the guest ended in another way";
	memcpy(&errors, g->run->mmio.data, sizeof(errors));
	if (errors)
		return errors == -1ULL ? "the guest took an exception" :
					 "the guest read from a page that it had unmapped";
	__atomic_add_fetch(&g->done, count, __ATOMIC_RELAXED);
	return NULL;
}

static bool guest_has(const struct guest *g, unsigned int op)
{
	return g->isar0_tlb >= ops[op].isar0_tlb;
}

static void *run_guest(void *arg)
{
	struct guest *g = arg;
	unsigned int op;

	while (!g->error && !__atomic_load_n(g->stop, __ATOMIC_ACQUIRE))
		for (op = 0; op < ARRAY_SIZE(ops) && !g->error; op++)
			if (guest_has(g, op))
				g->error = guest_run(g, op, 4 * WINDOW_PAGES);
	return NULL;
}

/* Guests that run beside something, and one that comes and goes */
struct crowd {
	int kvm;
	bool stop;
	struct guest guest[GUESTS];
	pthread_t thread;
	unsigned int guests;
	unsigned int unmaps;
	const char *error;
};

/* Take memory away from guests that run, and make new guests */
static void *churn_guests(void *arg)
{
	struct crowd *c = arg;
	struct guest guest;
	unsigned int i, k;

	while (!__atomic_load_n(&c->stop, __ATOMIC_ACQUIRE) && !c->error) {
		c->error = guest_new(&guest, c->kvm);
		if (!c->error)
			c->error = guest_run(&guest, OP_VMALLE1IS, 2);
		guest_free(&guest);
		c->guests++;
		for (i = 0; i < GUESTS; i++)
			for (k = 0; k < WINDOW_PAGES; k++)
				if (!madvise(c->guest[i].mem + GUEST_SPARE + k * page_size,
					     page_size, MADV_DONTNEED))
					__atomic_add_fetch(&c->unmaps, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static bool crowd_works(struct crowd *c)
{
	unsigned int i;

	for (i = 0; i < GUESTS; i++)
		if (!__atomic_load_n(&c->guest[i].done, __ATOMIC_RELAXED))
			return false;
	return __atomic_load_n(&c->unmaps, __ATOMIC_RELAXED);
}

/* What is done beside them begins when all are at work; if they are not, crowd_stop() tells */
static const char *crowd_start(struct crowd *c, int kvm)
{
	const char *error = NULL;
	unsigned int i, ms;

	*c = (struct crowd) { .kvm = kvm };
	for (i = 0; i < GUESTS; i++)
		c->guest[i] = (struct guest) { .vm = -1, .vcpu = -1 };
	for (i = 0; i < GUESTS && !error; i++)
		error = guest_new(&c->guest[i], kvm);
	if (error)
		return error;
	for (i = 0; i < GUESTS; i++) {
		c->guest[i].stop = &c->stop;
		if (pthread_create(&c->guest[i].thread, NULL, run_guest, &c->guest[i]))
			return "pthread_create";
	}
	if (pthread_create(&c->thread, NULL, churn_guests, c))
		return "pthread_create";
	for (ms = 0; ms < SVA_TIMEOUT_MS && !crowd_works(c); ms++)
		usleep(1000);
	return NULL;
}

/* NULL if all guests were at work, and right */
static const char *crowd_stop(struct crowd *c)
{
	const char *error;
	unsigned int i;

	__atomic_store_n(&c->stop, true, __ATOMIC_RELEASE);
	pthread_join(c->thread, NULL);
	error = c->error;
	for (i = 0; i < GUESTS; i++) {
		pthread_join(c->guest[i].thread, NULL);
		ksft_print_msg("guest %u: %lu operations\n", i, c->guest[i].done);
		if (!error)
			error = c->guest[i].error;
		if (!error && !c->guest[i].done)
			error = "a guest has done nothing";
		guest_free(&c->guest[i]);
	}
	ksft_print_msg("%u guests came and went, %u pages were taken away\n", c->guests,
		       c->unmaps);
	if (!error && (!c->guests || !c->unmaps))
		error = "no guest came and went";
	return error;
}

/*
 * Domains
 */
enum domain_kind { PROCESS, DMA, STAGE2, NESTED, KINDS };

static const char * const kind_names[] = {
	"process", "S1 domain", "S2 domain", "S1 on S2",
};

struct dma {
	struct sva_vfio v;
	char *bar[2];
	size_t bar_size[2];
	__u32 ioas;
	struct sva_queue q;
	char *mem;		/* WINDOW_PAGES, and another WINDOW_PAGES for NESTED */
};

struct machine {
	int kvm;
	struct sva_queue q;
	char *window;		/* of the process, */
	int file;		/* which keeps the pages */
	__u32 parent;		/* the stage 2 domain */
	struct dma dma[KINDS];	/* but PROCESS */
	struct smmu smmu;
};

static const char *map_bars(struct dma *d)
{
	static const unsigned int bars[] = { SVATD_BAR_CTRL, SVATD_BAR_QUEUES };
	struct vfio_region_info info;
	unsigned int i;
	void *p;

	for (i = 0; i < ARRAY_SIZE(bars); i++) {
		info = (struct vfio_region_info) { .argsz = sizeof(info), .index = bars[i] };
		if (ioctl(d->v.fd, VFIO_DEVICE_GET_REGION_INFO, &info))
			return "VFIO_DEVICE_GET_REGION_INFO";
		p = mmap(NULL, info.size, PROT_READ | PROT_WRITE, MAP_SHARED, d->v.fd, info.offset);
		if (p == MAP_FAILED)
			return "mmap of a BAR";
		d->bar[i] = p;
		d->bar_size[i] = info.size;
	}
	return NULL;
}

/* Queue 0, without a PASID */
static const char *start_queue(struct dma *d)
{
	struct vfio_region_info config = {
		.argsz = sizeof(config), .index = VFIO_PCI_CONFIG_REGION_INDEX,
	};
	const char *error;
	__u16 command;

	if (ioctl(d->v.fd, VFIO_DEVICE_GET_REGION_INFO, &config) ||
	    pread(d->v.fd, &command, 2, config.offset + PCI_COMMAND) != 2)
		return "reading configuration space";
	command |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	if (pwrite(d->v.fd, &command, 2, config.offset + PCI_COMMAND) != 2)
		return "writing configuration space";
	error = map_bars(d);
	if (error)
		return error;
	__atomic_store_n((__u32 *)(d->bar[0] + SVATD_QCTL(0) + SVATD_QCTL_CTL),
			 SVATD_QCTL_CTL_ENABLE, __ATOMIC_RELAXED);
	d->q.fd = -1;
	d->q.page = d->bar[1];
	return NULL;
}

static int map_iova(struct dma *d, __u64 iova, void *mem, size_t size)
{
	struct iommu_ioas_map map = {
		.size = sizeof(map),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
			 IOMMU_IOAS_MAP_WRITEABLE,
		.ioas_id = d->ioas,
		.user_va = (unsigned long)mem,
		.length = size,
		.iova = iova,
	};

	return ioctl(d->v.iommufd, IOMMU_IOAS_MAP, &map) ? -errno : 0;
}

static int unmap_iova(struct dma *d, __u64 iova, size_t size)
{
	struct iommu_ioas_unmap unmap = {
		.size = sizeof(unmap), .ioas_id = d->ioas, .iova = iova, .length = size,
	};

	return ioctl(d->v.iommufd, IOMMU_IOAS_UNMAP, &unmap) ? -errno : 0;
}

static const char *attach(struct dma *d, __u32 pt_id)
{
	struct vfio_device_attach_iommufd_pt attach = {
		.argsz = sizeof(attach), .pt_id = pt_id,
	};

	return ioctl(d->v.fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach) ?
		"VFIO_DEVICE_ATTACH_IOMMUFD_PT" : NULL;
}

static const char *new_hwpt(struct dma *d, struct iommu_hwpt_alloc *hwpt)
{
	hwpt->size = sizeof(*hwpt);
	hwpt->dev_id = d->v.dev_id;
	return ioctl(d->v.iommufd, IOMMU_HWPT_ALLOC, hwpt) ? "IOMMU_HWPT_ALLOC" : NULL;
}

static const char *new_ioas(struct dma *d)
{
	struct iommu_ioas_alloc ioas = { .size = sizeof(ioas) };

	if (ioctl(d->v.iommufd, IOMMU_IOAS_ALLOC, &ioas))
		return "IOMMU_IOAS_ALLOC";
	d->ioas = ioas.out_ioas_id;
	return NULL;
}

/*
 * Where a device has its context descriptor and its stage 1, by IPA. The tables
 * are like the guest's, and so is the ASID.
 */
#define NESTED_TABLES	GUEST_RAM
#define NESTED_CD	0x0
#define CD_0		(25UL | 1UL << 8 | 1UL << 10 | 3UL << 12 | 1UL << 30 | 1UL << 31 | \
			 2UL << 32 | 1UL << 41 | 1UL << 45 | 1UL << 46 | 1UL << 48)
#define STE_V_S1	(1UL | 5UL << 1)
#define STE1_CACHED	0xd4UL	/* S1CIR, S1COR, S1CSH */

static const char *attach_nested(struct dma *d, __u32 parent)
{
	struct iommu_viommu_alloc viommu = {
		.size = sizeof(viommu), .type = IOMMU_VIOMMU_TYPE_ARM_SMMUV3,
		.dev_id = d->v.dev_id, .hwpt_id = parent,
	};
	struct iommu_vdevice_alloc vdev = { .size = sizeof(vdev), .dev_id = d->v.dev_id };
	struct iommu_hwpt_arm_smmuv3 ste = {
		.ste = { STE_V_S1 | (NESTED_TABLES + NESTED_CD), STE1_CACHED },
	};
	struct iommu_hwpt_alloc hwpt = {
		.data_type = IOMMU_HWPT_DATA_ARM_SMMUV3,
		.data_len = sizeof(ste), .data_uptr = (unsigned long)&ste,
	};
	char *tables = d->mem + WINDOW_PAGES * page_size;
	const char *error;
	unsigned int i;

	store64(tables, NESTED_CD, 0, CD_0);
	store64(tables, NESTED_CD, 1, NESTED_TABLES + GUEST_L1);
	store64(tables, NESTED_CD, 3, 0xff);
	store64(tables, GUEST_L1, 1, (NESTED_TABLES + GUEST_L2) | PTE_TABLE);
	store64(tables, GUEST_L2, 1, (NESTED_TABLES + GUEST_WINDOW_L3) | PTE_TABLE);
	for (i = 0; i < WINDOW_PAGES; i++)
		store64(tables, GUEST_WINDOW_L3, i,
			(GUEST_WINDOW + i * GUEST_PAGE) | PTE_PAGE | PTE_NG | PTE_AP_EL0);
	if (map_iova(d, NESTED_TABLES, tables, WINDOW_PAGES * page_size))
		return "IOMMU_IOAS_MAP";
	if (ioctl(d->v.iommufd, IOMMU_VIOMMU_ALLOC, &viommu))
		return "IOMMU_VIOMMU_ALLOC";
	vdev.viommu_id = viommu.out_viommu_id;
	vdev.virt_id = 1;
	if (ioctl(d->v.iommufd, IOMMU_VDEVICE_ALLOC, &vdev))
		return "IOMMU_VDEVICE_ALLOC";
	hwpt.pt_id = viommu.out_viommu_id;
	error = new_hwpt(d, &hwpt);
	return error ? error : attach(d, hwpt.out_hwpt_id);
}

static const char *new_dma(struct machine *m, enum domain_kind kind, const char *pci)
{
	struct dma *d = &m->dma[kind], *parent = &m->dma[STAGE2];
	struct iommu_hwpt_alloc hwpt = {
		.flags = kind == STAGE2 ? IOMMU_HWPT_ALLOC_NEST_PARENT : 0,
	};
	const char *error;
	unsigned int i;

	error = sva_vfio_open_on(&d->v, pci, kind == NESTED ? parent->v.iommufd : -1);
	if (error)
		return error;
	d->mem = mmap(NULL, 2 * WINDOW_PAGES * page_size, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (d->mem == MAP_FAILED) {
		d->mem = NULL;
		return "mmap";
	}
	if (kind == NESTED) {
		d->ioas = parent->ioas;
		error = attach_nested(d, m->parent);
		return error ? error : start_queue(d);
	}
	error = new_ioas(d);
	if (error)
		return error;
	hwpt.pt_id = d->ioas;
	error = new_hwpt(d, &hwpt);
	if (!error)
		error = attach(d, hwpt.out_hwpt_id);
	if (error)
		return error;
	if (kind == STAGE2)
		m->parent = hwpt.out_hwpt_id;
	/* What is mapped at once can only be unmapped at once */
	for (i = 0; i < WINDOW_PAGES; i++)
		if (map_iova(d, GUEST_WINDOW + i * page_size, d->mem + i * page_size, page_size))
			return "IOMMU_IOAS_MAP";
	return start_queue(d);
}

static void free_dma(struct dma *d)
{
	unsigned int i;

	if (d->mem)
		munmap(d->mem, 2 * WINDOW_PAGES * page_size);
	for (i = 0; i < ARRAY_SIZE(d->bar); i++)
		if (d->bar[i])
			munmap(d->bar[i], d->bar_size[i]);
	sva_vfio_close(&d->v);
}

static struct sva_queue *queue_of(struct machine *m, enum domain_kind kind)
{
	return kind == PROCESS ? &m->q : &m->dma[kind].q;
}

/* The device reads and writes a page of its window: SVATD_ST_* */
static int touch(struct machine *m, enum domain_kind kind, unsigned int page)
{
	char *addr = (char *)GUEST_WINDOW + page * page_size;

	return sva_copy(queue_of(m, kind), 0, addr + 8, addr, 8, NULL);
}

/* Pages of a process that a device may still reach must not become another's */
static bool map_window(struct machine *m, unsigned int page, unsigned int pages)
{
	char *addr = (char *)GUEST_WINDOW + page * page_size;

	if (mmap(addr, pages * page_size, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_POPULATE | MAP_FIXED_NOREPLACE, m->file,
		 page * page_size) != addr)
		return false;
	memset(addr, 0xa5, pages * page_size);
	return true;
}

static void machine_setup(struct __test_metadata *_metadata, struct machine *m)
{
	char pci[KINDS - 1][PCI_NAME_LEN];
	const char *error;
	unsigned int i;
	int ret;

	page_size = sysconf(_SC_PAGESIZE);
	m->kvm = -1;
	m->file = -1;
	m->q.fd = -1;
	ret = sva_queue_init(&m->q);
	if (ret && sva_skip_reason(ret))
		SKIP(return, "%s", sva_skip_reason(ret));
	ASSERT_EQ(0, ret);
	m->kvm = open("/dev/kvm", O_RDWR);
	if (m->kvm < 0)
		SKIP(return, "no /dev/kvm: %s", strerror(errno));
	if (page_size != GUEST_PAGE)
		SKIP(return, "needs pages of 4K");
	if (sva_vfio_skip_reason())
		SKIP(return, "%s", sva_vfio_skip_reason());
	if (sva_vfio_find_all(pci, KINDS - 1) < KINDS - 1)
		SKIP(return, "needs four sva-testdevs behind one SMMU");
	m->file = memfd_create("sva_kvm", 0);
	ASSERT_EQ(0, ftruncate(m->file, WINDOW_PAGES * page_size));
	ASSERT_TRUE(map_window(m, 0, WINDOW_PAGES));
	m->window = (char *)GUEST_WINDOW;
	for (i = DMA; i < KINDS; i++) {
		error = new_dma(m, i, pci[i - 1]);
		ASSERT_EQ(NULL, error) {
			TH_LOG("%s: %s: %m", kind_names[i], error);
		}
	}
	if (smmu_map(&m->smmu, smmu_find(sva_device())))
		SKIP(return, "the SMMU's registers cannot be read: no /dev/mem");
}

static void machine_teardown(struct machine *m)
{
	unsigned int i;

	/* The domain that others build on last */
	for (i = NESTED; i >= DMA; i--)
		free_dma(&m->dma[i]);
	sva_queue_close(&m->q);
	if (m->window)
		munmap(m->window, WINDOW_PAGES * page_size);
	close(m->file);
	smmu_unmap(&m->smmu);
	close(m->kvm);
}

FIXTURE(kvm)
{
	struct machine m;
};

FIXTURE_SETUP(kvm)
{
	machine_setup(_metadata, &self->m);
}

FIXTURE_TEARDOWN(kvm)
{
	machine_teardown(&self->m);
}

/*
 * What guests make the SMMU forget
 */

/* Counters of QEMU's SMMUv3, IMPLEMENTATION DEFINED registers of page 0 */
#define COUNTER(n)		(0xe00 + 4 * (n))
#define COUNTER_ID		COUNTER(0)
#define COUNTER_ID_VALUE	0x53434e54
#define COUNTER_BROADCASTS	COUNTER(24)	/* and the next five */
#define COUNTER_IGNORED		COUNTER(31)	/* of these */
#define COUNTER_MISS		COUNTER(36)
#define COUNTER_PREFETCH	COUNTER(47)

static __u32 counter(struct machine *m, unsigned int offset)
{
	return __atomic_load_n((__u32 *)(m->smmu.regs + offset), __ATOMIC_RELAXED);
}

static bool has_counters(struct machine *m)
{
	return counter(m, COUNTER_ID) == COUNTER_ID_VALUE;
}

static __u32 broadcasts_obeyed(struct machine *m)
{
	__u32 n = -counter(m, COUNTER_IGNORED);
	unsigned int i;

	for (i = 0; i < 6; i++)
		n += counter(m, COUNTER_BROADCASTS + 4 * i);
	return n;
}

struct lost {
	unsigned int n[KINDS];
};

/* Use the first @pages of each window: how many translations had to be walked for */
static struct lost count_lost(struct __test_metadata *_metadata, struct machine *m,
			      unsigned int pages)
{
	struct lost lost = {};
	unsigned int i, k;
	__u32 misses;

	for (k = 0; k < KINDS; k++) {
		misses = counter(m, COUNTER_MISS);
		for (i = 0; i < pages; i++)
			ASSERT_EQ(SVATD_ST_OK, touch(m, k, i)) {
				TH_LOG("%s, page %u", kind_names[k], i);
			}
		lost.n[k] = counter(m, COUNTER_MISS) - misses;
	}
	return lost;
}

static bool lost_any(const struct lost *lost)
{
	unsigned int k, n = 0;

	for (k = 0; k < KINDS; k++)
		n += lost->n[k];
	return n;
}

/* Make all that is used a hit */
static void prime(struct __test_metadata *_metadata, struct machine *m)
{
	unsigned int tries;
	struct lost lost;

	for (tries = 0; tries < 10; tries++) {
		lost = count_lost(_metadata, m, WINDOW_PAGES);
		if (!lost_any(&lost))
			return;
	}
	ASSERT_FALSE(lost_any(&lost)) {
		TH_LOG("translations do not stay in the TLB by themselves");
	}
}

static void print_lost(const char *vmids, const char *what, unsigned int times,
		       const struct lost *lost)
{
	unsigned int k;

	ksft_print_msg("lost: VMIDs %s, %s x %u:", vmids, what, times);
	for (k = 0; k < KINDS; k++)
		printf(" %s %u%s", kind_names[k], lost->n[k], k < KINDS - 1 ? "," : "\n");
}

static void take_spare(struct guest *g)
{
	unsigned int i;

	for (i = 0; i < WINDOW_PAGES; i++)
		madvise(g->mem + GUEST_SPARE + i * page_size, page_size, MADV_DONTNEED);
}

/* All that a guest and KVM do; ends with the guest. @sum: what was lost */
static void count_guest(struct __test_metadata *_metadata, struct machine *m, struct guest *g,
			const char *vmids, struct lost *by_all, struct lost *sum)
{
	unsigned int op, times, k;
	const char *error = NULL;
	struct lost lost;

	for (op = 0; op < ARRAY_SIZE(ops) + 2; op++) {
		const char *what;

		if (op < ARRAY_SIZE(ops) && !guest_has(g, op))
			continue;
		prime(_metadata, m);
		if (op < ARRAY_SIZE(ops)) {
			what = ops[op].name;
			times = ops[op].scope == ONE_PAGE ? WINDOW_PAGES :
				ops[op].scope == ALL_PAGES ? 1 : 512;
			error = guest_run(g, op, times);
		} else if (op == ARRAY_SIZE(ops)) {
			what = "host takes a page";
			times = WINDOW_PAGES;
			take_spare(g);
		} else {
			what = "VM ends";
			times = 1;
			guest_free(g);
		}
		ASSERT_EQ(NULL, error) {
			TH_LOG("%s: %s", what, error);
		}
		lost = count_lost(_metadata, m, WINDOW_PAGES);
		print_lost(vmids, what, times, &lost);
		if (op == OP_VMALLE1IS)
			*by_all = lost;
		for (k = 0; k < KINDS; k++)
			sum->n[k] += lost.n[k];
	}
}

static const char *cannot_count(struct machine *m)
{
	if (!has_counters(m))
		return "the SMMU has no counters";
	if (!smmu_listens(&m->smmu))
		return "the SMMU does not listen to broadcasts";
	if (counter(m, COUNTER_PREFETCH))
		return "the SMMU fetches translations that nobody has asked for";
	return NULL;
}

/*
 * The first guest since boot, beside the first stage 2 domain: their VMIDs differ,
 * and nobody loses anything
 */
TEST_F_TIMEOUT(kvm, vmids_apart, 300)
{
	struct machine *m = &self->m;
	struct lost by_all = {}, sum = {};
	const char *error;
	struct guest g;

	if (cannot_count(m))
		SKIP(return, "%s", cannot_count(m));
	error = guest_new(&g, m->kvm);
	ASSERT_EQ(NULL, error) {
		TH_LOG("%s: %m", error);
	}
	count_guest(_metadata, m, &g, "apart", &by_all, &sum);
	EXPECT_FALSE(lost_any(&sum));
}

/* A guest that has the VMID of a stage 2 domain, after as many as that takes */
TEST_F_TIMEOUT(kvm, vmids_collide, 600)
{
	struct lost by_all = {}, sum = {}, lost;
	struct machine *m = &self->m;
	unsigned int n, limit = 300;
	const char *error;
	struct guest g;

	if (cannot_count(m))
		SKIP(return, "%s", cannot_count(m));
	for (n = 1; n <= limit; n++) {
		/* Few pages will do to find it */
		count_lost(_metadata, m, 4);
		error = guest_new(&g, m->kvm);
		if (!error)
			error = guest_run(&g, OP_VMALLE1IS, 1);
		ASSERT_EQ(NULL, error) {
			TH_LOG("guest %u: %s: %m", n, error);
		}
		lost = count_lost(_metadata, m, 4);
		if (lost.n[NESTED] && !lost.n[PROCESS] && !lost.n[DMA])
			break;
		guest_free(&g);
	}
	if (n > limit)
		SKIP(return, "none of %u guests has the VMID of a stage 2 domain", limit);
	ksft_print_msg("lost: guest %u has the VMID of a stage 2 domain\n", n);
	count_guest(_metadata, m, &g, "equal", &by_all, &sum);
	EXPECT_EQ(0, sum.n[PROCESS]);
	EXPECT_EQ(0, sum.n[DMA]);
	EXPECT_EQ(WINDOW_PAGES, by_all.n[NESTED]);
	EXPECT_EQ(0, by_all.n[STAGE2]);
	EXPECT_LT(0, sum.n[STAGE2]);
}

/* When KVM has given out its last VMID, all of EL1 is invalidated */
TEST_F_TIMEOUT(kvm, vmid_rollover, 600)
{
	struct lost lost = {}, more;
	struct machine *m = &self->m;
	unsigned int n, k, limit = 300;
	const char *error;
	struct guest g;

	if (cannot_count(m))
		SKIP(return, "%s", cannot_count(m));
	prime(_metadata, m);
	for (n = 1; n <= limit; n++) {
		error = guest_new(&g, m->kvm);
		if (!error && g.vmid_bits > 8) {
			guest_free(&g);
			SKIP(return, "VMIDs of %u bits", g.vmid_bits);
		}
		if (!error)
			error = guest_run(&g, OP_VMALLE1IS, 1);
		ASSERT_EQ(NULL, error) {
			TH_LOG("guest %u: %s: %m", n, error);
		}
		lost = count_lost(_metadata, m, 4);
		guest_free(&g);
		if (lost.n[PROCESS])
			break;
		if (lost_any(&lost))
			prime(_metadata, m);
	}
	more = count_lost(_metadata, m, WINDOW_PAGES);
	for (k = 0; k < KINDS; k++)
		lost.n[k] += more.n[k];
	print_lost("of 8 bits", "rollover", 1, &lost);
	EXPECT_GE(limit, n);
	EXPECT_EQ(WINDOW_PAGES, lost.n[PROCESS]);
	EXPECT_EQ(WINDOW_PAGES, lost.n[DMA]);
	EXPECT_EQ(WINDOW_PAGES, lost.n[STAGE2]);
	/* And what leads to its tables */
	EXPECT_LE(WINDOW_PAGES, lost.n[NESTED]);
}

/*
 * Coherence beside guests
 */

/* Each TLBI that the guest has is obeyed by its own CPU, and by the SMMU */
TEST_F_TIMEOUT(kvm, every_tlbi, 120)
{
	struct machine *m = &self->m;
	int count = 4 * WINDOW_PAGES, obeyed;
	unsigned int op;
	const char *error;
	struct guest g;
	__u32 before;

	error = guest_new(&g, m->kvm);
	ASSERT_EQ(NULL, error) {
		TH_LOG("%s: %m", error);
	}
	for (op = 0; op < ARRAY_SIZE(ops); op++) {
		if (!guest_has(&g, op))
			continue;
		before = broadcasts_obeyed(m);
		error = guest_run(&g, op, count);
		EXPECT_EQ(NULL, error) {
			TH_LOG("%s: %s", ops[op].name, error);
		}
		obeyed = broadcasts_obeyed(m) - before;
		if (has_counters(m) && ops[op].scope != NO_TLBI)
			EXPECT_LE(count, obeyed) {
				TH_LOG("%s", ops[op].name);
			}
	}
	/* What finds that a guest's TLBI was not obeyed must find it */
	EXPECT_NE(NULL, guest_run(&g, OP_NOTHING, count));
	guest_free(&g);
}

FIXTURE_VARIANT(kvm_beside)
{
	enum domain_kind kind;
};

FIXTURE(kvm_beside)
{
	struct machine m;
	struct crowd crowd;
};

FIXTURE_VARIANT_ADD(kvm_beside, process) { .kind = PROCESS };
FIXTURE_VARIANT_ADD(kvm_beside, s1_domain) { .kind = DMA };
FIXTURE_VARIANT_ADD(kvm_beside, s2_domain) { .kind = STAGE2 };
FIXTURE_VARIANT_ADD(kvm_beside, s1_on_s2) { .kind = NESTED };

FIXTURE_SETUP(kvm_beside)
{
	machine_setup(_metadata, &self->m);
}

FIXTURE_TEARDOWN(kvm_beside)
{
	machine_teardown(&self->m);
}

static int unmap_window(struct machine *m, enum domain_kind kind, unsigned int page)
{
	__u64 addr = GUEST_WINDOW + page * page_size;

	if (kind == PROCESS)
		return munmap((void *)addr, page_size) ? -errno : 0;
	return unmap_iova(&m->dma[kind], addr, page_size);
}

static int remap_window(struct machine *m, enum domain_kind kind, unsigned int page)
{
	__u64 addr = GUEST_WINDOW + page * page_size;
	/* Those two share their stage 2 */
	struct dma *d = &m->dma[kind == NESTED ? STAGE2 : kind];

	if (kind == PROCESS)
		return map_window(m, page, 1) ? 0 : -ENOMEM;
	return map_iova(d, addr, d->mem + page * page_size, page_size);
}

/* Whatever guests invalidate meanwhile, a device obeys the host's unmaps */
TEST_F_TIMEOUT(kvm_beside, unmap, 300)
{
	struct machine *m = &self->m;
	enum domain_kind kind = variant->kind;
	unsigned int i, stale = 0;
	const char *error;

	error = crowd_start(&self->crowd, m->kvm);
	ASSERT_EQ(NULL, error) {
		TH_LOG("%s: %m", error);
	}
	for (i = 0; i < 10 * WINDOW_PAGES; i++) {
		unsigned int page = i % WINDOW_PAGES;

		ASSERT_EQ(SVATD_ST_OK, touch(m, kind, page));
		ASSERT_EQ(0, unmap_window(m, kind, page));
		stale += touch(m, kind, page) != SVATD_ST_FAULT;
		ASSERT_EQ(0, remap_window(m, kind, page));
	}
	/* And all of them go on */
	for (i = 0; i < KINDS; i++)
		EXPECT_EQ(SVATD_ST_OK, touch(m, i, 0));
	error = crowd_stop(&self->crowd);
	EXPECT_EQ(NULL, error) {
		TH_LOG("%s", error);
	}
	EXPECT_EQ(0, stale) {
		TH_LOG("stale access: %u of %u accesses were not refused", stale,
		       10 * WINDOW_PAGES);
	}
}

/* Memory that a guest and a device share, and the host takes away from both */
TEST_F_TIMEOUT(kvm, guest_memory, 120)
{
	struct machine *m = &self->m;
	unsigned int i, round, stale = 0;
	const char *error;
	struct guest g;
	__u64 *page;

	error = guest_new(&g, m->kvm);
	ASSERT_EQ(NULL, error) {
		TH_LOG("%s: %m", error);
	}
	for (round = 0; round < 4; round++) {
		for (i = 0; i < WINDOW_PAGES; i++)
			store64(g.mem, GUEST_SPARE + i * page_size, 0, i + 1);
		ASSERT_EQ(NULL, guest_run(&g, OP_VMALLE1IS, WINDOW_PAGES));
		for (i = 0; i < WINDOW_PAGES; i++) {
			page = (__u64 *)(g.mem + GUEST_SPARE + i * page_size);
			ASSERT_EQ(SVATD_ST_OK, sva_copy(&m->q, 0, m->window, page, 8, NULL));
			ASSERT_EQ(i + 1, *(__u64 *)m->window);
			ASSERT_EQ(0, madvise(page, page_size, MADV_DONTNEED));
			stale += sva_copy(&m->q, 0, m->window, page, 8, NULL) != SVATD_ST_FAULT;
		}
		/* The guest has it back, empty, and so has the device */
		ASSERT_EQ(NULL, guest_run(&g, OP_VMALLE1IS, WINDOW_PAGES));
		for (i = 0; i < WINDOW_PAGES; i++) {
			page = (__u64 *)(g.mem + GUEST_SPARE + i * page_size);
			ASSERT_EQ(0, *page);
			ASSERT_EQ(SVATD_ST_OK, sva_copy(&m->q, 0, m->window, page, 8, NULL));
			stale += *(__u64 *)m->window != 0;
		}
	}
	guest_free(&g);
	EXPECT_EQ(0, stale) {
		TH_LOG("stale access: %u accesses to what the guest had before", stale);
	}
}

/* sva_kvm beside COMMAND...: guests run for as long as it does */
static int beside(char **command)
{
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC), status = 0, ret;
	struct crowd crowd;
	const char *error;
	pid_t pid;

	page_size = sysconf(_SC_PAGESIZE);
	if (kvm < 0)
		ksft_exit_fail_msg("no /dev/kvm: %s\n", strerror(errno));
	pid = fork();
	if (!pid) {
		execvp(command[0], command);
		_exit(127);
	}
	error = crowd_start(&crowd, kvm);
	if (error) {
		ret = errno;
		if (pid > 0)
			kill(pid, SIGKILL);
		ksft_exit_fail_msg("%s: %s\n", error, strerror(ret));
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		ksft_exit_fail_msg("%s cannot be run\n", command[0]);
	error = crowd_stop(&crowd);
	if (error)
		ksft_exit_fail_msg("%s\n", error);
	return WIFEXITED(status) ? WEXITSTATUS(status) : KSFT_FAIL;
}

static pid_t main_pid;

static void give_back(void)
{
	if (getpid() == main_pid)
		sva_vfio_give_back();
}

int main(int argc, char **argv)
{
	if (argc > 2 && !strcmp(argv[1], "beside"))
		return beside(argv + 2);
	/* The harness does not return */
	main_pid = getpid();
	atexit(give_back);
	return test_harness_run(argc, argv);
}

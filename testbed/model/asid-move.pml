/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Moving an S1 domain's ASID: arm_smmu_realloc_s1_domain_asid() and all that runs
 * meanwhile. "check" explores every interleaving of it, and of mistakes in it.
 *
 * A domain with two CDs (two masters, or two PASIDs) moves from ASID OLD to NEW,
 * whereupon a process takes OLD for its own CD and page table. A CPU per page
 * unmaps it from the domain. Devices access every page through every CD.
 *
 * The SMMU of the model does more than any SMMU may:
 *  - CDs are cached and evicted at any time.
 *  - A transaction takes a CD, then looks up the TLB by ASID and page; it may walk
 *    even if that hits. TLB entries are never evicted: it would only cost hits.
 *  - The commands before a SYNC take effect in any order and at any time until
 *    then, and a SYNC waits for those of its own CPU only.
 *
 * What SYNC has to guarantee (IHI0070 3.21, 4.7.3):
 *  - after TLBI: nobody uses the entries, or a PTE that a walk has read before.
 *  - after CFGI_CD: no transaction uses the old CD, walks included. (If a TLBI
 *    stopped walks of the ASID that have read no PTE yet, that would do as well.)
 * The model kills those transactions. To wait for one is the interleaving in
 * which it completes first.
 *
 * Abstracted away:
 *  - Weak memory: each store is seen by all at once. The function's comment argues
 *    that part; mutants no_mb and cds_first are what its barriers prevent.
 *  - Walk caches and levels, ranges and batches: a walk reads one PTE, a page is
 *    one entry. A page is not mapped again after its unmap.
 *  - ATS: ATCs know no ASIDs, and every array has the same ATC entries.
 *  - Stalls: a retry is a new transaction.
 *  - asid_lock: nobody attaches or detaches. RCU: a CPU copies the array.
 *  - The process's own unmaps: broadcasts only take entries away.
 */
#define NONE	0
#define OLD	1	/* ASIDs are bits: an array of them is a set */
#define NEW	2

#define S1	0	/* owners of CDs, of page tables, and so of TLB entries */
#define PROC	1
#define OWNER(c)	(c / 2)
#define TLB(o, p)	tlb[(o) * PAGES + (p)]
#define MOVER	PAGES	/* CPUs below it unmap the page of their number */

/* Memory */
byte invs = OLD;	/* the domain's invalidation array, ASIDs only */
byte cd[3];		/* ASIDs; NONE: not valid */
bool unmapped[PAGES];	/* PTEs of the domain; the process's stay valid */
bool freed[PAGES];	/* somebody else has the page that the PTE had */

/* Commands that have not taken effect yet */
byte tlbi[PAGES + 1];	/* by CPU, ASIDs: VA of an unmapping CPU, all of MOVER */
bool cfgi[3];		/* by CD */

/* SMMU */
byte cache[3];		/* ASIDs in the cached CDs */
byte tlb[2 * PAGES];	/* ASIDs that have an entry, by owner and page */
#define IDLE	0
#define LOOKUP	1	/* has a CD */
#define WALK	2	/* has a PTE, to use and to fill the TLB with */
typedef txn { byte state, cd, asid, page };
txn t[TXNS];

/* A device reaches nothing of another owner, and no page after its unmap */
#define USE(o, c, p)	assert(o == OWNER(c)); assert(o == PROC || !freed[p])

/*
 * CPUs
 */
proctype unmap(byte p)
{
	byte snapshot;

#ifdef no_mb
	snapshot = invs;
	unmapped[p] = true;
#else
	unmapped[p] = true;	/* smp_mb(); */
	snapshot = invs;
#endif
	tlbi[p] = snapshot; !tlbi[p];	/* and SYNC */
	freed[p] = true
}

#define BOTH		invs = OLD | NEW		/* step 1 */
#define WRITE(c)	cd[c] = NEW
#define CFGI(c)		cfgi[c] = true; !cfgi[c]	/* and SYNC */
#define CD(c)		WRITE(c); CFGI(c)
#define CDS		CD(0); CD(1)			/* step 2 */
#define FLUSH		tlbi[MOVER] = OLD; !tlbi[MOVER]	/* and SYNC: step 3 */
#define DROP		invs = NEW			/* step 4 */
#define TAKE		cd[2] = OLD			/* by the process */
/* For mutants: commands that somebody waits for later, or nobody */
#define SEND_CFGI(c)	cfgi[c] = true
#define SEND_FLUSH	tlbi[MOVER] = OLD
#define SYNC		!cfgi[0] && !cfgi[1] && !tlbi[MOVER]

#ifndef STEPS
#define STEPS		BOTH; CDS; FLUSH; DROP; TAKE
#endif

proctype mover()
{
	STEPS
}

/*
 * SMMU
 */
#define END(x)	x.state = IDLE; x.cd = 0; x.asid = NONE; x.page = 0

inline kill(which)
{
	for (i : 0 .. TXNS - 1) {
		if
		:: which -> END(t[i])
		:: else
		fi
	}
	i = 0
}

proctype config(byte c)
{
	byte i;

end:	do
	:: d_step { cd[c] && !cache[c] -> cache[c] = cd[c] }
	:: cache[c] -> cache[c] = NONE
	:: d_step { cfgi[c] -> cache[c] = NONE; cfgi[c] = false;
#ifndef cfgi_no_wait
		kill((t[i].state != IDLE && t[i].cd == c))
#endif
	   }
	od
}

#ifdef tlbi_stops_all
#define STOPS	LOOKUP
#else
#define STOPS	WALK
#endif

proctype invalidate(byte cpu, asid)
{
	byte i, p;

end:	do
	:: d_step { tlbi[cpu] & asid ->
		for (p : 0 .. PAGES - 1) {
			if
			:: cpu == p || cpu == MOVER ->
				TLB(S1, p) = TLB(S1, p) & ~asid;
				TLB(PROC, p) = TLB(PROC, p) & ~asid;
				kill((t[i].asid == asid && t[i].page == p &&
				      t[i].state >= STOPS))
			:: else
			fi
		}
		p = 0;
		tlbi[cpu] = tlbi[cpu] & ~asid }
	od
}

#define T	t[i]	/* one of its slot at a time */

proctype transactions(byte i)
{
	byte c, p;

end:	do
	:: atomic { T.state == IDLE ->
		select(c : 0 .. 2); select(p : 0 .. PAGES - 1);
		if
		:: cache[c] -> T.state = LOOKUP; T.cd = c; T.asid = cache[c]; T.page = p
		:: else
		fi;
		c = 0; p = 0 }
	:: d_step { T.state == LOOKUP && (TLB(S1, T.page) & T.asid) ->
		USE(S1, T.cd, T.page); END(T) }
	:: d_step { T.state == LOOKUP && (TLB(PROC, T.page) & T.asid) ->
		USE(PROC, T.cd, T.page); END(T) }
	:: d_step { T.state == LOOKUP ->
		if
		:: OWNER(T.cd) == S1 && unmapped[T.page] -> END(T)
		:: else -> T.state = WALK
		fi }
	:: d_step { T.state == WALK ->
		USE(OWNER(T.cd), T.cd, T.page);
		TLB(OWNER(T.cd), T.page) = TLB(OWNER(T.cd), T.page) | T.asid; END(T) }
	od
}

/* The rules of the code, at every moment; without them only harm is an error */
#ifndef NO_RULES
proctype rules(byte p)
{
end:	if	/* an ASID in a CD, cached or not, is in the array, */
	:: (cd[0] | cd[1] | cache[0] | cache[1]) & ~invs -> assert(false)
		/* and one that is neither there nor the process's is clear */
	:: (TLB(S1, p) & ~invs) || (TLB(PROC, p) & ~cd[2]) -> assert(false)
	fi
}
#endif

init {
	byte i;

	atomic {
		cd[0] = OLD; cd[1] = OLD;
#ifdef new_dirty
		TLB(PROC, 0) = NEW;
#endif
		run mover();
		for (i : 0 .. PAGES) { run invalidate(i, OLD); run invalidate(i, NEW) }
		for (i : 0 .. PAGES - 1) {
			run unmap(i);
#ifndef NO_RULES
			run rules(i)
#endif
		}
		for (i : 0 .. 2) { run config(i) }
		for (i : 0 .. TXNS - 1) { run transactions(i) }
		i = 0
	}
}

/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Who has an ASID of the SMMU: arm_smmu_realloc_s1_domain_asid(), what a process
 * does that takes the ASID, and all that runs meanwhile. "check" explores every
 * interleaving of it, and of mistakes in it.
 *
 * A domain with two CDs (two masters, or two PASIDs) moves from ASID OLD to NEW,
 * whereupon process P1 takes OLD for its own CD and page table. What P1 unmaps it
 * invalidates by broadcast. Then it dies (mm_release), its PASID is detached, and
 * the number is used again: by process P2 in another CD, or by the domain, which
 * moves a second time, back to it. A CPU per page unmaps it from the domain, and
 * one from P1. Devices access every page through every CD.
 *
 * The SMMU of the model does more than any SMMU may:
 *  - CDs are cached and evicted at any time.
 *  - A transaction takes a CD, then looks up the TLB by ASID and page; it may walk
 *    even if that hits. TLB entries are never evicted: it would only cost hits.
 *  - The commands before a SYNC take effect in any order and at any time until
 *    then, and a SYNC waits for those of its own CPU only. Likewise a broadcast and
 *    the DSB. A broadcast with an ASID leaves entries made with ASET=1 alone; a
 *    command takes them as well. Lookups do not tell them apart.
 *
 * What SYNC has to guarantee (IHI0070 3.21, 4.7.3), and the DSB:
 *  - after TLBI: nobody uses the entries, or a PTE that a walk has read before.
 *  - after CFGI_CD: no transaction uses the old CD, walks included. (If a TLBI
 *    stopped walks of the ASID that have read no PTE yet, that would do as well.)
 * The model kills those transactions. To wait for one is the interleaving in
 * which it completes first.
 *
 * What it proves, of one domain and one number: no device reaches a page after
 * its unmap is complete, nor through a CD a page of another owner, in any
 * interleaving of the steps below as they are written there. It does not prove
 * that the driver takes those steps (KUnit does that for the move, the mutants for
 * some of the rest), and of these it says nothing:
 *  - Weak memory: each store is seen by all at once. The function's comment argues
 *    that part; mutants no_mb and cds_first are what its barriers prevent.
 *  - Walk caches and levels, ranges and batches: a walk reads one PTE, a page is
 *    one entry. A page is not mapped again after its unmap.
 *  - ATS: ATCs know no ASIDs, and every array has the same ATC entries.
 *  - Stalls: a retry is a new transaction.
 *  - Two at a time: asid_lock is taken to serialize moves, attach and detach.
 *    RCU: a CPU copies the array.
 *  - Masters that attach to the domain or detach from it, and its end.
 *  - The CPUs' rollover and pins: P1 keeps its ASID until its CD is gone.
 *  - Two SMMUs: nothing is shared between them but the CPUs' broadcasts.
 */
#define NONE	0
#define OLD	1	/* ASIDs are bits: an array of them is a set */
#define NEW	2
#define ASIDS	3
#define DEAD	4	/* in a CD: it has an ASID, but walks are off (EPD0) */

#define S1	0	/* owners of CDs, of page tables, and so of TLB entries */
#define P1	1
#define P2	2
#define OWNER(c)	(c < 2 -> S1 : c - 1)
#define TLB(o, p)	tlb[(o) * PAGES + (p)]
#define PAGE(o, p)	(o) * PAGES + (p)
#define MOVER	PAGES	/* CPUs below it unmap the page of their number */

/* Memory */
byte invs = OLD;	/* the domain's invalidation array, ASIDs only */
byte held[3];		/* ASIDs that a process has, by owner */
byte cd[4];		/* ASIDs; NONE: not valid */
bool unmapped[2 * PAGES];	/* PTEs of the domain and of P1; P2's stay valid */
bool freed[2 * PAGES];	/* somebody else has the page that the PTE had */

/* Commands, and broadcasts of P1, that have not taken effect yet */
byte tlbi[PAGES + 1];	/* by CPU, ASIDs: VA of an unmapping CPU, all of MOVER */
bool cfgi[4];		/* by CD */
bool broadcast[PAGES];	/* by page, of P1's ASID */

/* SMMU */
byte cache[4];		/* the cached CDs */
byte tlb[3 * PAGES];	/* ASIDs that have an entry, by owner and page */
#define IDLE	0
#define LOOKUP	1	/* has a CD */
#define WALK	2	/* has a PTE, to use and to fill the TLB with */
typedef txn { byte state, cd, asid, page; bool dead };
txn t[TXNS];

/* A device reaches nothing of another owner, and no page after its unmap */
#define USE(o, c, p)	assert(o == OWNER(c)); assert(o == P2 || !freed[PAGE(o, p)])

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

/* One of P1, whether it has been bound yet, is, or was */
proctype punmap(byte p)
{
	unmapped[PAGE(P1, p)] = true;
#ifndef no_broadcast
	broadcast[p] = true;
#ifndef no_dsb
	!broadcast[p];
#endif
#endif
	freed[PAGE(P1, p)] = true
}

#define BOTH		invs = OLD | NEW		/* step 1 */
#define WRITE(c)	cd[c] = NEW
#define CFGI(c)		cfgi[c] = true; !cfgi[c]	/* and SYNC */
#define CD(c)		WRITE(c); CFGI(c)
#define CDS		CD(0); CD(1)			/* step 2 */
#define FLUSH		tlbi[MOVER] = OLD; !tlbi[MOVER]	/* and SYNC: step 3 */
#define DROP		invs = NEW			/* step 4 */
#define TAKE		held[P1] = OLD; cd[2] = OLD	/* by the process */
#define MOVE		BOTH; CDS; FLUSH; DROP

/* P1 dies: its pages go without a TLBI, as tlb_flush() has it */
#define KILL		cd[2] = OLD | DEAD
#define REAP		freed[PAGE(P1, 0)] = true
#define RELEASE		KILL; CFGI(2); FLUSH; REAP
/* ... and so do those of a living process that is bound no more */
#define CLEAR		cd[2] = NONE
#define GIVE		held[P1] = NONE
#define DETACH		CLEAR; CFGI(2); FLUSH; GIVE; REAP
/* With an ASID of nobody in its CD, a dead process needs its own no more */
#define RELEASE_0	cd[2] = DEAD; CFGI(2); FLUSH; GIVE; REAP
#define END		if :: RELEASE; DETACH :: DETACH fi

/* The number's next owner */
#define TAKE2		held[P2] = OLD; cd[3] = OLD
#define BACK		invs = OLD | NEW; \
			cd[0] = OLD; CFGI(0); cd[1] = OLD; CFGI(1); \
			tlbi[MOVER] = NEW; !tlbi[MOVER]; invs = OLD
#define REUSE		if :: TAKE2 :: BACK fi

/* For mutants: commands that somebody waits for later, or nobody */
#define SEND_CFGI(c)	cfgi[c] = true
#define SEND_FLUSH	tlbi[MOVER] = OLD
#define SYNC		!cfgi[0] && !cfgi[1] && !cfgi[2] && !tlbi[MOVER]

#ifndef STEPS
#define STEPS		MOVE; TAKE
#endif

proctype mover()
{
	STEPS
}

/*
 * SMMU
 */
#define DONE(x)	x.state = IDLE; x.cd = 0; x.asid = NONE; x.page = 0; x.dead = false

inline kill(which)
{
	for (i : 0 .. TXNS - 1) {
		if
		:: which -> DONE(t[i])
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
				TLB(P1, p) = TLB(P1, p) & ~asid;
				TLB(P2, p) = TLB(P2, p) & ~asid;
				kill((t[i].asid == asid && t[i].page == p &&
				      t[i].state >= STOPS))
			:: else
			fi
		}
		p = 0;
		tlbi[cpu] = tlbi[cpu] & ~asid }
	od
}

/* The domain's CDs have ASET=1, those of processes 0 */
#ifdef share_aset
#define ASET(o)	true
#else
#define ASET(o)	((o) == S1)
#endif

proctype hear(byte p)
{
	byte i;

end:	do
	:: d_step { broadcast[p] ->
		if
		:: !ASET(P1) ->
			TLB(P1, p) = TLB(P1, p) & ~OLD;
			TLB(P2, p) = TLB(P2, p) & ~OLD
		:: else
		fi;
		kill((t[i].asid == OLD && t[i].page == p && t[i].state >= STOPS &&
		      !ASET(OWNER(t[i].cd))));
		broadcast[p] = false }
	od
}

#define T	t[i]	/* one of its slot at a time */

proctype transactions(byte i)
{
	byte c, p;

end:	do
	:: atomic { T.state == IDLE ->
		select(c : 0 .. LAST_CD); select(p : 0 .. PAGES - 1);
		if
		:: cache[c] -> T.state = LOOKUP; T.cd = c; T.page = p;
			T.asid = cache[c] & ASIDS; T.dead = (cache[c] & DEAD) != 0
		:: else
		fi;
		c = 0; p = 0 }
	:: d_step { T.state == LOOKUP && (TLB(S1, T.page) & T.asid) ->
		USE(S1, T.cd, T.page); DONE(T) }
	:: d_step { T.state == LOOKUP && (TLB(P1, T.page) & T.asid) ->
		USE(P1, T.cd, T.page); DONE(T) }
	:: d_step { T.state == LOOKUP && (TLB(P2, T.page) & T.asid) ->
		USE(P2, T.cd, T.page); DONE(T) }
	:: d_step { T.state == LOOKUP ->
		if
		:: T.dead || (OWNER(T.cd) != P2 && unmapped[PAGE(OWNER(T.cd), T.page)]) ->
			DONE(T)
		:: else -> T.state = WALK
		fi }
	:: d_step { T.state == WALK ->
		USE(OWNER(T.cd), T.cd, T.page);
		TLB(OWNER(T.cd), T.page) = TLB(OWNER(T.cd), T.page) | T.asid; DONE(T) }
	od
}

/* The rules of the code, at every moment; without them only harm is an error */
#ifndef NO_RULES
proctype rules(byte p)
{
end:	if	/* an ASID in a CD, cached or not, is in the array, */
	:: (cd[0] | cd[1] | cache[0] | cache[1]) & ~invs -> assert(false)
		/* or the process's, */
	:: ((cd[2] | cache[2]) & ASIDS & ~held[P1]) ||
	   ((cd[3] | cache[3]) & ~held[P2]) -> assert(false)
		/* which is nobody else's, */
	:: held[P1] & held[P2] -> assert(false)
		/* and one that is neither there nor the process's is clear */
	:: (TLB(S1, p) & ~invs) || (TLB(P1, p) & ~held[P1]) ||
	   (TLB(P2, p) & ~held[P2]) -> assert(false)
	fi
}
#endif

init {
	byte i;

	atomic {
		cd[0] = OLD; cd[1] = OLD;
#ifdef new_dirty
		TLB(P1, 0) = NEW;
#endif
		run mover();
		for (i : 0 .. PAGES) { run invalidate(i, OLD); run invalidate(i, NEW) }
		for (i : 0 .. PAGES - 1) {
			run unmap(i);
			run punmap(i); run hear(i);
#ifndef NO_RULES
			run rules(i)
#endif
		}
		for (i : 0 .. LAST_CD) { run config(i) }
		for (i : 0 .. TXNS - 1) { run transactions(i) }
		i = 0
	}
}

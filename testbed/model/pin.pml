/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * "Pinned means broadcast": arm64_mm_context_get() against a CPU that changes a PTE
 * and would like to invalidate its own TLB alone. "check-pin" explores every
 * interleaving of it, and of mistakes in it; pin-*.litmus are the same for herd7,
 * which knows the memory model of the architecture.
 *
 * Two drivers pin the ASID of one mm, each for an SMMU of its own, which walks the
 * page table as soon as it has a CD. Before the first pin there may be a rollover: then
 * the ASID changes. In the end no SMMU may have an entry that is older than the PTE.
 * (That the CPU may load the ASID before the pin does no harm, as a PTE that changed
 * before the interrupt needs no TLBI, and what comes after it is loaded after it.)
 *
 * The CPU of the model orders less than any CPU: its store to the PTE becomes visible
 * at any time later, its loads of the pin and of the ASID are done at any time before,
 * and it may execute the old instruction in place of the static key's new one. A
 * barrier orders what it is said to, and an interrupt everything: what was done ahead
 * is done again, and stores of before are visible.
 */
#define OLD	1	/* ASIDs; 0 is none */
#define NEW	2

/* Memory, as all but the CPU see it */
bool pte_new;
byte pinned;
byte asid = OLD;
bool key;
byte cd[2];		/* ASIDs */
byte tlb[2];		/* the ASID of the entry for the old PTE */

/* The CPU */
bool stored;		/* the new PTE waits to become visible */
bool ahead_pin, ahead_asid;	/* loaded already: */
byte pin_loaded, asid_loaded;
bool old_code;		/* of the static key */
bool done;
byte finished;		/* drivers */

#define VISIBLE		if :: stored -> pte_new = true; stored = false :: else fi

/* Pinning */
bool first[2];
inline pin(i)
{
	atomic {
		first[i] = !pinned;
		if
		:: first[i] -> asid = NEW	/* a rollover */
		:: true
		fi
	}
	pinned++
}
inline set_key(i)
{
	atomic { old_code = old_code || !key; key = true }
}
inline ipi(i)
{
	atomic {
		VISIBLE;
		ahead_pin = false;
		ahead_asid = false;
		old_code = false
	}
}
inline ipi_if_first(i)
{
	if
	:: first[i] -> ipi(i)
	:: else
	fi
}
inline install(i)
{
	cd[i] = asid
}

#ifndef STEPS
#define STEPS	pin(i); set_key(i); ipi(i); install(i)
#endif

proctype driver(byte i)
{
	STEPS;
	finished++
}

proctype smmu(byte i)
{
	cd[i] -> atomic {
		if
		:: !pte_new -> tlb[i] = cd[i]
		:: else
		fi
	}
}

/* Local TLB maintenance: change the PTE, DSB NSHST, and then */
proctype cpu()
{
	byte a;
	bool keep;

	stored = true;
#ifdef asid_first
	a = asid;
#endif
	atomic {
		if
		:: !key || old_code -> keep = true
		:: key -> keep = false
		fi
	}
	if
	:: keep
	:: else ->
		atomic {
			if
			:: ahead_pin -> keep = !pin_loaded
			:: else -> keep = !pinned
			fi
		}
		if
		:: keep
		:: else ->
#ifndef no_dsb
			/* DSB ISHST, which orders no loads */
			atomic { VISIBLE };
#endif
#ifndef asid_first
			atomic {
				if
				:: ahead_asid -> a = asid_loaded
				:: else -> a = asid
				fi
			};
#endif
			atomic {
				if :: tlb[0] == a -> tlb[0] = 0 :: else fi;
				if :: tlb[1] == a -> tlb[1] = 0 :: else fi
			}
		fi
	fi
	done = true
}

/* What the CPU does out of order */
proctype out_of_order()
{
end:	do
	:: atomic { stored -> VISIBLE }
	:: atomic { !done && !ahead_pin -> ahead_pin = true; pin_loaded = pinned }
	:: atomic { !done && !ahead_asid -> ahead_asid = true; asid_loaded = asid }
	od
}

proctype judge()
{
	/* SMMUs have walked, or they find the new PTE */
	done && !stored && finished == 2 -> assert(!tlb[0] && !tlb[1])
}

init
{
	atomic {
		run driver(0);
		run driver(1);
		run smmu(0);
		run smmu(1);
		run cpu();
		run out_of_order();
		run judge()
	}
}

/*
 * The election of lib/cluster/election/election.ts: instances, etcd and the network between them, in ticks of a third of a TTL.
 *
 * Time passes only when nobody has anything left to do at once (`timeout`), so that everything slow is a fault, and
 * faults are counted: lost requests and answers, late ones, frozen and restarted instances. All of them may be hit at
 * any moment, and etcd ends leases by its own count.
 *
 * Checked (model.test.ts):
 *   - no two instances hold themselves to be the leader at the same time
 *   - an accepted write is always of the newest term
 *   - no deadlock; and once the faults are used up, the writes of a leader go on for ever (no cycle without `progress`)
 *
 * Variants, by -D:
 *   SUSPEND      a frozen instance's own clock stands still (a suspended machine): two may hold themselves to be the
 *                leader, and the fence alone has to keep the old one's writes out
 *   NO_FENCE     writes are not guarded             } mistakes that the search
 *   FROM_ANSWER  a renewal counts from its answer   } has to find, or else it
 *   NO_EXPIRY    the keys of dead leases stay       } proves nothing
 */

#ifndef N
#define N 2
#endif
#ifndef FAULTS
#define FAULTS 3
#endif
#define TTL 3      /* ticks a lease lives in etcd after it was granted or renewed */
#define VALID 2    /* ticks a leader trusts a renewal after it SENT it */
#define PATIENCE 1 /* ticks after which a call counts as unanswered */

mtype = { STANDBY, CANDIDATE, LEADER }
mtype = { NOTHING, CLAIM, RENEW, WRITE, REVOKE }  /* what is asked */
mtype = { SILENCE, YES, NO }                      /* what is answered */
mtype = { PROMPT, SLOW, UNANSWERED, LATE, LOST }  /* what becomes of a message */

typedef Message { mtype ask; byte lease; byte fence }

typedef Instance {
  mtype phase = STANDBY;
  byte lease;             /* number of its newest lease */
  byte leaseLeft;         /* ticks that has left in etcd while no key lives under it */
  byte fence;
  byte valid;             /* ticks until its term or candidacy is over, by its own clock */
  bool acted;             /* had its round in this tick */
  bool wrote;             /* the same for its write */
  byte frozen;            /* ticks it will not run */
  mtype asked = NOTHING;  /* the call it waits for */
  byte age;               /* ticks since that was sent */
  mtype answer = SILENCE;
  mtype slow = SILENCE;   /* an answer that arrives with the next tick */
  byte won;               /* the fence in the answer to a claim */
  Message call;           /* on its way to etcd */
  Message write;          /* a guarded write on its way, beside the calls */
  Message late;           /* overtaken by later messages, and by time */
  bool released           /* the late one arrives now */
}

/* etcd. A lease is told from the earlier ones of the same instance by its number. */
byte term;        /* of the newest leader key: its create revision, the fence */
byte holder;      /* whose key that is */
byte keyLease;    /* the lease it lives under */
byte keyLeft;     /* ticks that lease has left; 0: there is no leader key */
byte newestWrite; /* fence of the newest accepted write */

Instance all[N];
byte faults = FAULTS;

#define leads(i) (all[i].phase == LEADER && all[i].valid > 0)
#define waits(i) (all[i].asked != NOTHING)
#define runs(i) (all[i].frozen == 0)
#define canFail (faults > 0)

/* ---- an instance ---- */

inline put(slot, what, number, guard) {
  slot.ask = what; slot.lease = number; slot.fence = guard
}

inline clear(slot) {
  put(slot, NOTHING, 0, 0)
}

inline send(i, what) {
  put(all[i].call, what, all[i].lease, all[i].fence);
  all[i].asked = what; all[i].age = 0; all[i].answer = SILENCE; all[i].slow = SILENCE
}

inline settle(i) {
  all[i].asked = NOTHING; all[i].age = 0; all[i].answer = SILENCE; all[i].slow = SILENCE
}

/* The end of a term or of a candidacy, whatever was asked meanwhile. It rests for the rest of the tick. */
inline leave(i) {
  all[i].phase = STANDBY; all[i].valid = 0; all[i].fence = 0; all[i].acted = true; all[i].wrote = true;
  send(i, REVOKE)
}

/* What a renewal is worth is counted from when it was sent; `valid` of a candidate, from its grant. */
inline take(i) {
  if
  :: all[i].asked == CLAIM && all[i].answer == YES && all[i].valid > 0 ->
    all[i].phase = LEADER; all[i].fence = all[i].won; settle(i)
  :: all[i].asked == RENEW && all[i].answer == YES ->
#ifdef FROM_ANSWER
    all[i].valid = TTL;
#else
    all[i].valid = (all[i].age < VALID -> VALID - all[i].age : 0);
#endif
    settle(i)
  :: all[i].asked == REVOKE -> settle(i)
  :: else -> leave(i)
  fi;
#ifndef SUSPEND
  leaders = 0;
  for (j : 0 .. N - 1) { leaders = leaders + (leads(j) -> 1 : 0) }
  assert(leaders <= 1);
#endif
  leaders = 0; j = 0
}

inline round(i) {
  all[i].acted = true;
  if
  :: all[i].phase == STANDBY && keyLeft == 0 -> /* the grant, and the claim with it */
    all[i].lease = (all[i].lease + 1) % 8; all[i].leaseLeft = TTL; all[i].valid = VALID;
    all[i].phase = CANDIDATE; send(i, CLAIM)
  :: all[i].phase == CANDIDATE && all[i].valid > 0 -> send(i, CLAIM)
  :: all[i].phase == CANDIDATE && all[i].valid == 0 -> leave(i)
  :: leads(i) -> send(i, RENEW)
  :: else
  fi
}

proctype instance(byte i) {
  byte leaders, j;
end:
  do
  :: atomic { runs(i) && all[i].phase == LEADER && all[i].valid == 0 -> leave(i) }
  :: atomic { runs(i) && waits(i) && all[i].answer != SILENCE -> take(i) }
  :: atomic { runs(i) && waits(i) && all[i].age >= PATIENCE -> settle(i) }
  :: atomic { runs(i) && !waits(i) && !all[i].acted -> round(i) }
  :: atomic { runs(i) && leads(i) && !all[i].wrote && all[i].write.ask == NOTHING ->
      all[i].wrote = true; put(all[i].write, WRITE, 0, all[i].fence) }
  od
}

/* ---- the network and etcd ---- */

inline pick(slot) {
  m.ask = slot.ask; m.lease = slot.lease; m.fence = slot.fence; clear(slot)
}

inline fate(i) {
  if
  :: way = PROMPT
  :: canFail -> faults--; way = SLOW
  :: canFail -> faults--; way = UNANSWERED
  :: canFail -> faults--; way = LOST
  :: canFail && all[i].late.ask == NOTHING -> faults--; way = LATE
  fi
}

inline claim(i) {
  if
  :: keyLeft > 0 && holder == i && keyLease == m.lease -> result = YES /* the answer to an earlier claim was lost */
  :: keyLeft == 0 && all[i].lease == m.lease && all[i].leaseLeft > 0 ->
    term++; holder = i; keyLease = m.lease; keyLeft = all[i].leaseLeft; all[i].leaseLeft = 0; result = YES
  :: else -> result = NO
  fi;
  all[i].won = (result == YES -> term : 0)
}

inline process(i) {
  if
  :: m.ask == CLAIM -> claim(i)
  :: m.ask == RENEW && keyLeft > 0 && term == m.fence -> keyLeft = TTL; result = YES
#ifdef NO_FENCE
  :: m.ask == WRITE ->
#else
  :: m.ask == WRITE && keyLeft > 0 && term == m.fence ->
#endif
    assert(m.fence == term && m.fence >= newestWrite);
    newestWrite = m.fence; written = true; result = YES
  :: m.ask == REVOKE ->
    if
    :: holder == i && keyLease == m.lease -> keyLeft = 0
    :: all[i].lease == m.lease -> all[i].leaseLeft = 0
    :: else
    fi;
    result = YES
  :: else -> result = NO
  fi
}

/* The answer comes back; a refused write ends the term that it was of. */
inline reply(i) {
  if
  :: m.ask == WRITE && result == NO && way == PROMPT && runs(i) && leads(i) && all[i].fence == m.fence -> leave(i)
  :: m.ask != WRITE && way == PROMPT -> all[i].answer = result
  :: m.ask != WRITE && way == SLOW -> all[i].slow = result
  :: else
  fi
}

proctype network(byte i) {
  Message m;
  mtype way, result;
  bool written;
end:
  do
  :: atomic {
      if
      :: all[i].call.ask != NOTHING -> pick(all[i].call); fate(i)
      :: all[i].write.ask != NOTHING -> pick(all[i].write); fate(i)
      :: all[i].released -> all[i].released = false; pick(all[i].late); way = UNANSWERED
      fi;
      if
      :: way == LOST
      :: way == LATE -> put(all[i].late, m.ask, m.lease, m.fence)
      :: else -> process(i); reply(i)
      fi;
      clear(m); way = 0; result = 0 }
    if
    :: written -> written = false;
progress: skip
    :: else
    fi
  od
}

/* ---- time, and what befalls instances with it ---- */

inline less(count) {
  count = (count > 0 -> count - 1 : 0)
}

inline pass(i) {
#ifdef SUSPEND
  if
  :: runs(i) -> less(all[i].valid); all[i].age = (waits(i) -> all[i].age + 1 : 0)
  :: else
  fi;
#else
  less(all[i].valid); all[i].age = (waits(i) && all[i].age < VALID -> all[i].age + 1 : all[i].age);
#endif
  less(all[i].leaseLeft); less(all[i].frozen);
  all[i].acted = false; all[i].wrote = false;
  if
  :: all[i].slow != SILENCE -> all[i].answer = all[i].slow; all[i].slow = SILENCE
  :: else
  fi
}

inline befall(i) {
  if
  :: true
  :: canFail && runs(i) -> faults--; all[i].frozen = 1
  :: canFail && runs(i) -> faults--; all[i].frozen = TTL + 1
  :: canFail -> faults--; /* killed and started again; what it had sent is on its way */
    all[i].phase = STANDBY; all[i].valid = 0; all[i].fence = 0; all[i].frozen = 0; settle(i)
  fi;
  if
  :: all[i].late.ask != NOTHING -> all[i].released = true
  :: all[i].late.ask != NOTHING && canFail -> faults--
  :: else
  fi
}

proctype time() {
  byte i;
end:
  do
  :: timeout -> atomic {
#ifndef NO_EXPIRY
      less(keyLeft);
#endif
      for (i : 0 .. N - 1) { pass(i); befall(i) }
      i = 0 }
  od
}

init {
  byte i;
  atomic {
    for (i : 0 .. N - 1) {
      clear(all[i].call); clear(all[i].write); clear(all[i].late);
      run instance(i); run network(i)
    }
    run time()
  }
}

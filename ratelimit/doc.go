// Package ratelimit decides how often callers may call: requests, tokens and concurrency, for a key, an agent and the
// whole proxy, in this process or in a store that replicas share.
//
// # Rates
//
// A [Rate] is a bucket that refills evenly. Its whole state is one time, when it will be full again; until then is its
// Full. One event costs unit = ⌈Per/Events⌉, n of them cost ⌈n·Per/Events⌉, and the bucket holds Burst units. What costs c is
// admitted if Full + c is at most that capacity. The nanosecond up to which a cost is rounded makes a rate a little
// slower, never faster.
//
// A request that costs more than the bucket holds, which only tokens can, is admitted when the bucket is full, and runs
// into debt: Full may exceed the capacity, and nobody passes until that much time has gone by.
//
// # A request's way
//
//	var g ratelimit.Grant
//	if r := l.Take(ctx, scopes, estimate, &g); r != nil { … }   // charges rates: all scopes or none
//	if r := l.Wait(done, &g); r != nil { … }                    // takes slots, in the order of arrival
//	defer g.Release()                                           // gives the slots back
//	…
//	g.Settle(tokens)                                            // what it really cost
//
// # Refunds
//
// What a refusal or a settlement gives back was charged earlier. It fills the bucket up to full and no further, and
// nothing is given back once the bucket has been full since: it would then be as full if the charge had never been
// made. Over any interval at most capacity plus the interval's refill is charged, refunds subtracted.
//
// # Concurrency
//
// Slots are counted by each process for itself. Who finds none waits in the order of arrival, [Queue].Wait at most, and at
// most [Queue].Length wait for one scope. The order of scopes is fixed (key, agent, global), so that two requests never
// wait for each other.
package ratelimit

package main

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// calm keeps the collector from running all the time, and has it run when nobody would
// notice. It returns what ends that.
//
// A proxy's heap is so small that it would double many times a second: bytes that are
// never touched, and so cost address space and no memory, make it larger. A proxy with
// thousands of open streams is the opposite. They allocate nothing, so that the heap
// never reaches its next goal, and what their opening left behind would stay for the two
// minutes after which the runtime collects in any case.
func calm() (end func()) {
	reserve := make([]byte, 12<<20)
	done := make(chan struct{})
	c := collector{ours: os.Getenv("GOGC") == ""}
	go func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for n := 1; ; n++ {
			select {
			case <-tick.C:
				c.look()
				if n%calmTicks == 0 && c.due() {
					runtime.GC() // pools give their buffers up in two steps
					debug.FreeOSMemory()
				}
			case <-done:
				return
			}
		}
	}()
	return func() {
		close(done)
		runtime.KeepAlive(reserve)
	}
}

const (
	// calmTicks is for how many seconds no collection must have run.
	calmTicks = 5
	// calmSize is how much to be gained is worth a collection that is not due by itself.
	calmSize = 4 << 20
	// largeHeap is from when on a heap need not double until the next collection: what is
	// garbage then lies between what lives, and keeps its pages.
	largeHeap, largePercent = 32 << 20, 30
)

// collector knows what the last looks at the runtime's collector showed.
type collector struct {
	ours  bool // how much garbage there may be is not the operator's choice (GOGC)
	large bool

	cycles  uint64 // so far
	live    uint64 // by the last of them
	objects uint64 // that live, and what has died since
	free    uint64 // pages that are empty and were not given back

	seen    uint64 // cycles at the last call of due
	settled uint64 // what was in use behind our last collection, or less
}

// look reads the state of the heap, and adapts to its size how much garbage there may be.
func (c *collector) look() {
	s := [...]metrics.Sample{
		{Name: "/gc/cycles/total:gc-cycles"},
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(s[:])
	c.cycles, c.live, c.objects, c.free = s[0].Value.Uint64(), s[1].Value.Uint64(), s[2].Value.Uint64(), s[3].Value.Uint64()
	switch {
	case !c.ours:
	case !c.large && c.live > largeHeap:
		c.large = true
		debug.SetGCPercent(largePercent)
	case c.large && c.live < largeHeap/4*3:
		c.large = false
		debug.SetGCPercent(100)
	}
}

// due reports whether no collection has run since the last call, and one is likely to give
// much back, garbage or pages that are free already: more is in use than our last one left,
// by calmSize and a twentieth. What the runtime takes for alive does not count: it holds much
// that was at work when it looked. Whoever is told that it is due collects.
func (c *collector) due() bool {
	quiet := c.cycles == c.seen
	c.seen = c.cycles
	used := c.objects + c.free
	c.settled = min(c.settled, used)
	if !quiet || used <= c.settled+max(calmSize, c.settled/20) {
		return false
	}
	c.settled = math.MaxUint64 // known at the next call
	return true
}

package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// calm keeps the collector from running all the time, and then has it run when nobody
// would notice. It returns what ends that.
//
// A proxy's heap is so small that it would double many times a second: bytes that are
// never touched, and so cost address space and no memory, make it larger. A proxy with
// thousands of open streams is the opposite. They allocate nothing, so that the heap
// never reaches its next goal, and what their opening left behind would stay for the two
// minutes after which the runtime collects in any case: calmly is when it has not run
// for a while and would free much.
func calm() (end func()) {
	reserve := make([]byte, 12<<20)
	done := make(chan struct{})
	go func() {
		tick := time.NewTicker(calmTime)
		defer tick.Stop()
		var c collector
		for {
			select {
			case <-tick.C:
				if c.due() {
					debug.FreeOSMemory() // collects, too
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
	calmTime = 5 * time.Second
	// calmSize is how much to be gained is worth a collection that is not due by itself.
	calmSize = 8 << 20
)

// collector knows what the last look at the runtime's collector showed.
type collector struct {
	cycles uint64
}

// due reports whether no collection has run since the last call, and one would give much
// back, garbage or pages that are free already: calmSize, and a tenth of what is in use.
func (c *collector) due() bool {
	s := [...]metrics.Sample{
		{Name: "/gc/cycles/total:gc-cycles"},
		{Name: "/gc/heap/live:bytes"}, // by the last collection
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/memory/classes/heap/free:bytes"}, // kept, not given back
	}
	metrics.Read(s[:])
	cycles, live, objects, free := s[0].Value.Uint64(), s[1].Value.Uint64(), s[2].Value.Uint64(), s[3].Value.Uint64()
	quiet := cycles == c.cycles
	c.cycles = cycles
	return quiet && objects+free > live+max(calmSize, live/10)
}

package main

import (
	"runtime"
	"runtime/debug"
	"testing"
)

var rubbish [][]byte

// TestCollectorIsDueWhereItFreesMuch looks at the process's own heap, and so runs alone.
func TestCollectorIsDueWhereItFreesMuch(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	debug.FreeOSMemory()
	var c collector
	due := func() bool {
		c.look()
		return c.due()
	}
	if due() {
		t.Error("due although a collection has just run")
	}
	if due() {
		t.Error("due where nothing is to be gained")
	}
	for range 64 {
		rubbish = append(rubbish, make([]byte, 1<<20))
	}
	rubbish = nil
	if !due() {
		t.Error("not due with 64 MiB of garbage")
	}
	debug.FreeOSMemory()
	for range 2 {
		if due() {
			t.Error("due again behind a collection")
		}
	}
}

// TestLargeHeapHoldsLessGarbage follows what is live up and down.
func TestLargeHeapHoldsLessGarbage(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	percent := func() int {
		p := debug.SetGCPercent(100)
		debug.SetGCPercent(p)
		return p
	}
	for _, ours := range []bool{true, false} {
		c := collector{ours: ours}
		big := make([]byte, 2*largeHeap)
		runtime.GC()
		c.look()
		want := 100
		if ours {
			want = largePercent
		}
		if got := percent(); got != want {
			t.Errorf("large heap, ours: %t: GOGC is %d, want %d", ours, got, want)
		}
		runtime.KeepAlive(big) // and no longer
		runtime.GC()
		c.look()
		if got := percent(); got != 100 {
			t.Errorf("small again, ours: %t: GOGC is %d, want 100", ours, got)
		}
	}
}

package main

import (
	"runtime/debug"
	"testing"
)

var rubbish [][]byte

// TestCollectorIsDueWhereItFreesMuch looks at the process's own heap, and so runs alone.
func TestCollectorIsDueWhereItFreesMuch(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	debug.FreeOSMemory()
	var c collector
	if c.due() {
		t.Error("due although a collection has just run")
	}
	if c.due() {
		t.Error("due where nothing is to be gained")
	}
	for range 64 {
		rubbish = append(rubbish, make([]byte, 1<<20))
	}
	rubbish = nil
	if !c.due() {
		t.Error("not due with 64 MiB of garbage")
	}
	debug.FreeOSMemory()
	if c.due() || c.due() {
		t.Error("due again behind a collection")
	}
}

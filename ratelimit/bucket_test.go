package ratelimit

import (
	"testing"
	"time"
)

// TestAChargeOfAnOldCountIsNone lets two decisions see the same count of a bucket: one of them charges it, and the other has to
// look again.
func TestAChargeOfAnOldCountIsNone(t *testing.T) {
	t.Parallel()
	m := newMeter(Rate{Events: 10, Per: time.Minute})
	var b bucket
	old := b.tat.Load()
	if !b.charge(&m, old, 0, m.unit, 0) {
		t.Fatal("the first was refused")
	}
	if b.charge(&m, old, 0, m.unit, 0) || b.full(0) != m.unit {
		t.Errorf("the second charge made it %v, want %v", b.full(0), m.unit)
	}
}

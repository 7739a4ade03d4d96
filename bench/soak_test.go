package main

import (
	"math/rand/v2"
	"testing"
)

// TestVerdictSeesLeaks: the collector's cycles are not taken for a leak, nor do they hide one.
func TestVerdictSeesLeaks(t *testing.T) {
	t.Parallel()
	const seconds = 180
	run := func(leak float64, goroutines int) error {
		rnd := rand.New(rand.NewPCG(1, 2)) // #nosec G404 -- not for secrets
		var samples []sample
		for i := range seconds {
			wave := 30e6 * float64(i%23) / 23 // a cycle
			samples = append(samples, sample{
				rss:        44e6 + wave + 1e6*rnd.Float64() + leak*float64(i),
				goroutines: 500 + rnd.IntN(20) + goroutines*i/10,
				fds:        1000 + rnd.IntN(40),
			})
		}
		return verdict(samples, sample{goroutines: 10, fds: 10}, sample{goroutines: 10, fds: 10})
	}
	if err := run(0, 0); err != nil {
		t.Error(err)
	}
	if run(60e3, 0) == nil {
		t.Error("60 KB a second are not seen")
	}
	if run(0, 10) == nil {
		t.Error("a goroutine a second is not seen")
	}
	if err := verdict(make([]sample, 3), sample{goroutines: 10}, sample{goroutines: 20}); err == nil {
		t.Error("what is left at the end is not seen")
	}
}

package proxy

import (
	"flag"
	"testing"

	"go.uber.org/goleak"
)

// TestMain fails the package when a goroutine outlives the tests: every one has
// an owner and an end. The one exception is fasthttp's: its worker pool looks
// only every ten seconds whether it was stopped.
func TestMain(m *testing.M) {
	flag.Parse()
	ours := true
	flag.Visit(func(f *flag.Flag) { ours = ours && f.Name != "test.parallel" })
	if ours { // most tests wait for a peer, and not for a processor
		_ = flag.Set("test.parallel", "12")
	}
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"))
}

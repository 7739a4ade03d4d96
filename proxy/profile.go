package proxy

import (
	"bytes"
	"fmt"
	"runtime/pprof"
	"runtime/trace"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
)

const (
	// profilePath is where profiles are, as go tool pprof expects them.
	profilePath = "/debug/pprof/"
	// profileTime is how long a profile or a trace takes, and the most it may take.
	profileTime     = 30 * time.Second
	traceTime       = time.Second
	mostProfileTime = time.Minute
)

// profile answers a request for a profile of the process, where admin.pprof allows it. One
// is made at a time: each costs the requests that run. The standard library's handler is
// not used, because it puts itself on a mux that is everybody's.
func (a *adminServer) profile(ctx *fasthttp.RequestCtx, name string) {
	fail := func(status int, text string) {
		ctx.SetStatusCode(status)
		ctx.SetBodyString(text + "\n")
	}
	if name == "" {
		var b strings.Builder
		b.WriteString("profile?seconds=30 (of the CPU)\ntrace?seconds=1\n")
		for _, p := range pprof.Profiles() {
			fmt.Fprintf(&b, "%s (%d)\n", p.Name(), p.Count())
		}
		ctx.SetBodyString(b.String())
		return
	}
	lookup := pprof.Lookup(name)
	took := profileTime
	if name == "trace" {
		took = traceTime
	}
	if lookup == nil && name != "profile" && name != "trace" {
		fail(fasthttp.StatusNotFound, "There is no such profile; "+profilePath+" lists them.")
		return
	}
	args := ctx.QueryArgs()
	if text := string(args.Peek("seconds")); text != "" && lookup == nil {
		n, err := strconv.Atoi(text)
		if took = time.Duration(n) * time.Second; err != nil || n < 1 || n > int(mostProfileTime/time.Second) {
			fail(fasthttp.StatusBadRequest, "seconds wants a number from 1 to "+strconv.Itoa(int(mostProfileTime/time.Second))+".")
			return
		}
	}
	if !a.profiling.CompareAndSwap(false, true) {
		fail(fasthttp.StatusTooManyRequests, "A profile is being made; one at a time.")
		return
	}
	defer a.profiling.Store(false)
	var b bytes.Buffer
	var err error
	switch name {
	case "profile":
		if err = pprof.StartCPUProfile(&b); err == nil {
			a.pass(took)
			pprof.StopCPUProfile()
		}
	case "trace":
		if err = trace.Start(&b); err == nil {
			a.pass(took)
			trace.Stop()
		}
	default:
		level := 0
		if d := string(args.Peek("debug")); d == "1" || d == "2" {
			level = int(d[0] - '0')
		}
		if err = lookup.WriteTo(&b, level); err == nil && level > 0 {
			ctx.SetBody(b.Bytes())
			return
		}
	}
	if err != nil {
		fail(fasthttp.StatusInternalServerError, err.Error())
		return
	}
	ctx.Response.Header.SetContentType("application/octet-stream")
	ctx.Response.Header.Set("Content-Disposition", `attachment; filename="`+name+`"`)
	ctx.SetBody(b.Bytes())
}

// pass lets time pass, but not beyond the end of the listener.
func (a *adminServer) pass(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-a.quit:
	}
}

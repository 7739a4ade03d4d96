package proxy

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dragoman-proxy/dragoman/internal/config"
)

// raw sends a head to the admin listener and reads the answer.
func (o operator) raw(head string) (int, string) {
	o.t.Helper()
	c := dialTo(o.t, o.addr)
	fmt.Fprint(c, head)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		o.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		o.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// pprofOn turns admin.pprof on, as a reload would.
func pprofOn(t *testing.T, r *running) {
	t.Helper()
	snap := *r.snapshot()
	conf := *snap.conf
	conf.Admin.PProf = true
	agents := map[*config.Agent]*agent{}
	for i := range conf.Agents {
		agents[&conf.Agents[i]] = snap.agents[&conf.Agents[i]]
	}
	snap.conf, snap.agents = &conf, agents
	r.current.Store(&snap)
}

// TestProfiles holds that profiles are off unless asked for, on the admin listener only,
// bounded, one at a time, and end with it.
func TestProfiles(t *testing.T) {
	t.Parallel()
	back := stage(t, func(v *visit) { v.json(200, backendScripts[0].body) })
	r := start(t, agentYAML("chat", back.addr))
	op := r.operator()
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/goroutine", "/debug/pprof/profile?seconds=1", "/debug/pprof/trace"} {
		if status, text := op.get(path); status != 404 || strings.Contains(text, "pprof") {
			t.Errorf("off: %s: %d %q", path, status, text)
		}
	}
	pprofOn(t, r)
	if got := r.get("/debug/pprof/"); got.status != 404 {
		t.Errorf("clients get %d", got.status)
	}
	if status, text := op.get("/debug/pprof/"); status != 200 || !strings.Contains(text, "heap (") || !strings.Contains(text, "profile?seconds=30") {
		t.Errorf("index: %d %q", status, text)
	}
	for _, name := range []string{"heap", "goroutine", "allocs", "profile?seconds=1"} {
		status, text := op.get("/debug/pprof/" + name)
		z, err := gzip.NewReader(strings.NewReader(text))
		if status != 200 || err != nil {
			t.Errorf("%s: %d, %v", name, status, err)
			continue
		}
		if b, err := io.ReadAll(z); err != nil || len(b) == 0 {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
	if status, text := op.get("/debug/pprof/goroutine?debug=1"); status != 200 || !strings.Contains(text, "goroutine profile: total") {
		t.Errorf("words: %d %q", status, text)
	}
	if status, text := op.get("/debug/pprof/trace?seconds=1"); status != 200 || !strings.HasPrefix(text, "go 1.") {
		t.Errorf("trace: %d", status)
	}
	for path, want := range map[string]int{"nothing": 404, "../metrics": 404, "profile?seconds=0": 400, "profile?seconds=61": 400, "trace?seconds=x": 400} {
		if status, _ := op.get("/debug/pprof/" + path); status != want {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
	}
	// One at a time, and none outlives the listener.
	c := dialTo(t, op.addr)
	fmt.Fprint(c, "GET /debug/pprof/profile?seconds=60 HTTP/1.0\r\n\r\n")
	waitFor(t, "a profile to begin", r.admin.profiling.Load)
	if status, _ := op.get("/debug/pprof/heap"); status != 429 {
		t.Errorf("two at a time: %d", status)
	}
	if status, _ := op.get("/metrics"); status != 200 {
		t.Errorf("metrics meanwhile: %d", status)
	}
	start := time.Now()
	r.stopAdmin()
	if took := time.Since(start); took > longest {
		t.Errorf("the end took %v", took)
	}
}

// TestAdminOnlyReads holds that nothing but GET and HEAD is taken, and that a page in a
// browser on this host cannot read what it gets by a name that was made to mean this host.
func TestAdminOnlyReads(t *testing.T) {
	t.Parallel()
	back := stage(t, func(v *visit) { v.json(200, backendScripts[0].body) })
	r := start(t, agentYAML("chat", back.addr))
	op := r.operator()
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "PATCH"} {
		if status, _ := op.raw(method + " /metrics HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"); status/100 != 4 {
			t.Errorf("%s: %d", method, status)
		}
	}
	for host, want := range map[string]int{
		"localhost": 200, "LOCALHOST:8081": 200, "127.0.0.1:8081": 200, "[::1]:8081": 200, "10.0.0.7": 200,
		"evil.example": 403, "evil.example:8081": 403, "localhost.evil.example": 403, "127.0.0.1.evil.example": 403,
	} {
		status, text := op.raw("GET /metrics HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n")
		if status != want || want == 403 && strings.Contains(text, "dragoman_") {
			t.Errorf("Host %s: %d, want %d", host, status, want)
		}
	}
	c := dialTo(t, op.addr)
	fmt.Fprint(c, "GET /metrics HTTP/1.0\r\nOrigin: http://evil.example\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if got := resp.Header.Get("Access-Control-Allow-Origin"); got != "" {
		t.Errorf("an origin is allowed: %s", got)
	}
}

// TestAdminIsOutsideAllLimits holds that probes and scrapers are answered when no client
// may do anything any more.
func TestAdminIsOutsideAllLimits(t *testing.T) {
	t.Parallel()
	back := stage(t, func(v *visit) { v.json(200, backendScripts[0].body) })
	r := start(t, "limits: {global: {requests: 1/h}}\n"+agentYAML("chat", back.addr))
	op := r.operator()
	r.post("/v1/chat/completions", `{"model":"it","messages":[{"role":"user","content":"x"}]}`, "")
	if got := r.post("/v1/chat/completions", `{"model":"it","messages":[{"role":"user","content":"x"}]}`, ""); got.status != 503 {
		t.Fatalf("the limit: %d", got.status)
	}
	for _, path := range []string{"/livez", "/readyz", "/metrics"} {
		for range 20 {
			if status, _ := op.get(path); status != 200 {
				t.Fatalf("%s: %d", path, status)
			}
		}
	}
}

// sample is a line of the text format.
var (
	sampleLine = regexp.MustCompile(`^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{((?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*",? ?)*)\})? ([-+0-9.eE]+|NaN|[-+]Inf)$`)
	headLine   = regexp.MustCompile(`^# (HELP|TYPE) ([a-zA-Z_:][a-zA-Z0-9_:]*)(?: (.*))?$`)
	labelPair  = regexp.MustCompile(`([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"`)
)

// parseMetrics reads the text format strictly and returns the types of the families and
// the values of the series.
func parseMetrics(t *testing.T, text string) (types map[string]string, series map[string]float64) {
	t.Helper()
	types, series = map[string]string{}, map[string]float64{}
	helped := map[string]bool{}
	var family string
	last := map[string]float64{} // of a histogram's buckets
	if !strings.HasSuffix(text, "\n") {
		t.Error("the last line does not end")
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		if m := headLine.FindStringSubmatch(line); m != nil {
			switch {
			case m[1] == "HELP":
				if helped[m[2]] {
					t.Errorf("two HELP of %s", m[2])
				}
				helped[m[2]] = true
				if strings.HasPrefix(m[2], "dragoman_") && m[3] == "" {
					t.Errorf("no words for %s", m[2])
				}
			case types[m[2]] != "":
				t.Errorf("two TYPE of %s", m[2])
			case !slices.Contains([]string{"counter", "gauge", "histogram", "summary", "untyped"}, m[3]):
				t.Errorf("%s is a %s", m[2], m[3])
			default:
				types[m[2]], family = m[3], m[2]
			}
			continue
		}
		m := sampleLine.FindStringSubmatch(line)
		if m == nil {
			t.Errorf("not in the format: %q", line)
			continue
		}
		id := m[1] + "{" + m[2] + "}"
		if _, twice := series[id]; twice {
			t.Errorf("%s twice", id)
		}
		v, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			t.Error(err)
		}
		series[id] = v
		base := m[1]
		if types[family] == "histogram" {
			base = strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(base, "_bucket"), "_sum"), "_count")
		}
		if strings.HasPrefix(m[1], "dragoman_") {
			if base != family {
				t.Errorf("%s stands under %s", m[1], family)
			}
			seen := map[string]bool{}
			for _, l := range labelPair.FindAllStringSubmatch(m[2], -1) {
				if seen[l[1]] {
					t.Errorf("label %s twice: %s", l[1], line)
				}
				seen[l[1]] = true
			}
			if types[family] == "counter" && !strings.HasSuffix(family, "_total") {
				t.Errorf("the counter %s is no _total", family)
			}
		}
		if rest, ok := strings.CutSuffix(m[1], "_bucket"); ok && types[family] == "histogram" {
			i := strings.Index(m[2], "le=")
			key := rest + m[2][:i]
			if v < last[key] {
				t.Errorf("buckets fall: %s", line)
			}
			last[key] = v
			if strings.HasSuffix(m[2], `le="+Inf"`) {
				last["inf "+rest+strings.TrimSuffix(m[2][:i], ",")] = v
			}
		} else if rest, ok := strings.CutSuffix(m[1], "_count"); ok && types[family] == "histogram" {
			if inf := last["inf "+rest+m[2]]; inf != v {
				t.Errorf("%s: %v, and +Inf is %v", id, v, inf)
			}
		}
	}
	return types, series
}

// everything has a proxy count all there is, and scrapes it.
func everything(t *testing.T, r *running, op operator, next chan struct{}) string {
	t.Helper()
	c := r.dial()
	c.send("POST", "/v1/responses", `{"model":"it","input":"x","truncation":"auto","frobnicate":1,"stream":true}`, "")
	resp := c.response()
	defer resp.Body.Close()
	until(t, resp.Body, "one")
	next <- struct{}{}
	until(t, resp.Body, "response.completed")
	r.waitLog(1)
	_, text := op.get("/metrics")
	return text
}

// streamer is a backend whose answer says how many tokens it took. Its stream has two writes.
func streamer(t *testing.T, next chan struct{}) *stagedAgent {
	return stage(t, func(v *visit) {
		chunk := func(delta, more string) {
			v.chunk(`data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":` + delta + `,"finish_reason":` + more + "}\n\n")
		}
		v.open()
		chunk(`{"role":"assistant","content":"one"}`, "null}]")
		<-next
		chunk(`{}`, `"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}`)
		v.chunk("data: [DONE]\n\n")
		v.end()
	})
}

// TestEveryMetricIsDocumented holds that docs/metrics.md, the HELP lines and what a scrape
// has are the same metrics, of the same types and labels, and that the scrape is in the
// format.
func TestEveryMetricIsDocumented(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	type entry struct{ kind, labels string }
	documented := map[string]entry{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(dragoman_[a-z_]+)` \\| ([a-z]+) \\| ([^|]*)\\|").FindAllStringSubmatch(string(doc), -1) {
		var names []string
		for _, l := range regexp.MustCompile("`[^`]+`").FindAllString(regexp.MustCompile(`\([^)]*\)`).ReplaceAllString(m[3], ""), -1) {
			names = append(names, strings.Trim(l, "`"))
		}
		documented[m[1]] = entry{m[2], strings.Join(names, ",")}
	}
	if len(documented) != len(help) {
		t.Errorf("%d metrics are documented, and %d have HELP", len(documented), len(help))
	}
	for name := range help {
		if documented[name].kind == "" {
			t.Errorf("%s is not documented", name)
		}
	}

	next := make(chan struct{})
	r := start(t, "state: {store: memory}\n"+agentYAML("chat", streamer(t, next).addr), func(s *Server) {
		s.About("dragoman 1 \"quoted\"", func() uint64 { return 7 })
		s.meters.share(func() uint64 { return 0 })
		s.meters.retried("it", "refused")
		s.meters.stateFailed("read")
		s.meters.fellBack("it", "other")
		s.meters.stale.get(staleKey{"it", "other"}).Inc()
		s.meters.limited.get(limitedKey{"key", "requests", "it"}).Inc()
		s.meters.set.NewGauge("dragoman_tls_certificate_expiry_seconds", func() float64 { return 1 })
	})
	op := r.operator()
	types, series := parseMetrics(t, everything(t, r, op, next))
	for name, kind := range types {
		if strings.HasPrefix(name, "dragoman_") && documented[name].kind != kind {
			t.Errorf("%s is a %s, and documented as %q", name, kind, documented[name].kind)
		}
	}
	for name := range documented {
		if types[name] == "" {
			t.Errorf("%s is documented, and nowhere", name)
		}
	}
	for id := range series {
		name, rest, _ := strings.Cut(id, "{")
		var names []string
		for _, l := range labelPair.FindAllStringSubmatch(rest, -1) {
			if l[1] != "le" {
				names = append(names, l[1])
			}
		}
		for _, suffix := range []string{"", "_bucket", "_sum", "_count"} {
			base, ok := strings.CutSuffix(name, suffix)
			if e, known := documented[base]; ok && known && e.labels != strings.Join(names, ",") {
				t.Errorf("%s has the labels %v, and the documentation %s", name, names, e.labels)
			}
		}
	}
	if series[`dragoman_log_dropped_total{}`] != 7 {
		t.Error("dropped lines are not told")
	}
}

// TestWhatAStreamLeaves holds the values: time to the first byte and gaps of streams, the
// length of requests, open streams, tokens and the backend's gauges.
func TestWhatAStreamLeaves(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	back := stage(t, func(v *visit) {
		v.open()
		for _, text := range []string{"one", "two", "three"} {
			v.chunk(`data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"` + text + `"},"finish_reason":null}]}` + "\n\n")
			<-gate
		}
		v.chunk(`data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}` + "\n\ndata: [DONE]\n\n")
		v.end()
	})
	r := start(t, agentYAML("chat", back.addr))
	op := r.operator()
	c := r.dial()
	c.send("POST", "/v1/chat/completions", `{"model":"it","stream":true,"messages":[{"role":"user","content":"x"}]}`, "")
	resp := c.response()
	defer resp.Body.Close()
	until(t, resp.Body, "one")
	scrape := func() map[string]float64 {
		t.Helper()
		_, text := op.get("/metrics")
		_, series := parseMetrics(t, text)
		return series
	}
	f := func(series map[string]float64, id string, want float64) {
		t.Helper()
		if got, ok := series[id]; !ok || got != want {
			t.Errorf("%s: %v, want %v", id, got, want)
		}
	}
	running := scrape()
	f(running, `dragoman_streams_open{agent="it"}`, 1)
	f(running, `dragoman_first_byte_seconds_count{agent="it",face="chat"}`, 1) // while it runs
	f(running, `dragoman_event_gap_seconds_count{agent="it"}`, 0)
	f(running, `dragoman_backend_up{agent="it",backend="`+back.addr+`"}`, 1)
	f(running, `dragoman_backend_state{agent="it",backend="`+back.addr+`"}`, 0)
	gate <- struct{}{}
	until(t, resp.Body, "two")
	gate <- struct{}{}
	until(t, resp.Body, "three")
	close(gate)
	until(t, resp.Body, "[DONE]")
	r.waitLog(1)
	over := scrape()
	f(over, `dragoman_streams_open{agent="it"}`, 0)
	if n := over[`dragoman_event_gap_seconds_count{agent="it"}`]; n < 3 || n > 4 { // the end may come in two
		t.Errorf("%v gaps", n)
	}
	f(over, `dragoman_request_seconds_count{agent="it",face="chat",outcome="completed"}`, 1)
	f(over, `dragoman_tokens_total{agent="it",direction="input"}`, 3)
	f(over, `dragoman_tokens_total{agent="it",direction="output"}`, 4)
	f(over, `dragoman_requests_total{agent="it",face="chat",protocol="chat",backend="`+back.addr+`",status="200",outcome="completed"}`, 1)
	if sum := over[`dragoman_request_seconds_sum{agent="it",face="chat",outcome="completed"}`]; sum <= 0 {
		t.Errorf("it took %v", sum)
	}
}

// TestClientsCannotMakeSeries holds that a client who invents agents, models, paths,
// methods, headers and fields, and a backend that invents statuses, add no series without
// a bound.
func TestClientsCannotMakeSeries(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	var back *stagedAgent
	back = stage(t, func(v *visit) {
		n := int(asked.Add(1))
		<-back.seen // nobody else looks
		v.json(400+n%200, `{"error":{"message":"x","code":"evil-`+strconv.Itoa(n)+`","type":"t"}}`)
	})
	r := start(t, agentYAML("chat", back.addr)+"  - {name: strange, protocol: chat, url: \"http://"+back.addr+"\", model: m}\n")
	op := r.operator()
	count := func() int {
		_, text := op.get("/metrics")
		if strings.Contains(text, "evil") {
			t.Errorf("a client's word:\n%s", own(text))
		}
		return strings.Count(own(text), "\n")
	}
	round := func(i int) {
		c := r.dialBare()
		defer c.Close()
		for _, ask := range []struct{ method, path, body, headers string }{
			{"POST", "/agents/evil-%d/v1/chat/completions", `{"model":"it","messages":[]}`, ""},
			{"POST", "/v1/chat/completions", `{"model":"evil-%d","evil-%d":1,"messages":[{"role":"user","content":"x"}]}`, ""},
			{"POST", "/v1/evil-%d", "{}", ""},
			{"POST", "/v1/chat/completions", `{"model":"evil","messages":[{"role":"evil-%d","content":"x"}]}`, "X-Request-Id: evil-%d\r\nTraceparent: 00-evil-%d\r\n"},
			{"POST", "/v1/responses", `{"model":"it","input":"x","evil%d":{}}`, ""},
		} {
			num := strconv.Itoa(i)
			fill := func(s string) string { return strings.ReplaceAll(s, "%d", num) }
			c.send(ask.method, fill(ask.path), fill(ask.body), fill(ask.headers))
			c.reply()
		}
	}
	for i := range 210 { // all statuses that the backend has
		round(i)
	}
	before := count()
	for i := range 210 {
		round(1000 + i)
	}
	if after := count(); after != before {
		t.Errorf("%d series, and %d before", after, before)
	}
}

// TestGapsCostNothing holds the price that an event of a stream pays.
func TestGapsCostNothing(t *testing.T) {
	p := &pump{seen: newMeters(&Server{}).streams.get("it")}
	now := time.Now()
	if n := testing.AllocsPerRun(1000, func() {
		now = now.Add(30 * time.Millisecond)
		p.speak(now)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
	m := newMeters(&Server{})
	c := &call{s: &Server{meters: m}, log: record{agent: "it", face: "chat"}}
	c.answered(now)
	if n := testing.AllocsPerRun(1000, func() { c.answered(now) }); n != 0 {
		t.Errorf("%v allocations a first byte", n)
	}
}

func BenchmarkGap(b *testing.B) {
	p := &pump{seen: newMeters(&Server{}).streams.get("it")}
	now := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(30 * time.Millisecond)
		p.speak(now)
	}
}

// TestHistogramBounds holds that a duration falls below the bound that it equals, that
// nothing is lost above the last one, and that long sums keep their sense.
func TestHistogramBounds(t *testing.T) {
	t.Parallel()
	h := newHistogram(newBounds(time.Millisecond, time.Second))
	for _, d := range []time.Duration{-1, 0, time.Millisecond, time.Millisecond + 1, time.Second, time.Hour} {
		h.observe(d)
	}
	want := "x_bucket{a=\"b\",le=\"0.001\"} 3\nx_bucket{a=\"b\",le=\"1\"} 5\nx_bucket{a=\"b\",le=\"+Inf\"} 6\n"
	if got := string(h.appendTo(nil, "x", `{a="b"}`)); !strings.HasPrefix(got, want) || !bytes.Contains([]byte(got), []byte("x_count{a=\"b\"} 6\n")) {
		t.Errorf("got %s", got)
	}
}

func dialTo(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(longest))
	return c
}

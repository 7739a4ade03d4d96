package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/dragoman-proxy/dragoman/translate"
)

// operator asks the admin listener of a proxy under test.
type operator struct {
	t    *testing.T
	addr string
}

func (r *running) operator() operator {
	r.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	r.serveAdmin(ln)
	return operator{r.t, ln.Addr().String()}
}

func (o operator) get(path string) (int, string) {
	o.t.Helper()
	c, err := net.Dial("tcp", o.addr)
	if err != nil {
		o.t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET %s HTTP/1.0\r\n\r\n", path)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		o.t.Fatal(err)
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		o.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// TestLossesAreCounted counts what a request and a streamed answer lost, by
// fields without indexes, and every request by its outcome.
func TestLossesAreCounted(t *testing.T) {
	t.Parallel()
	back := stage(t, func(v *visit) {
		v.open()
		v.chunk("data: {\"type\": \"step\", \"step\": \"looking\", \"id\": \"s1\"}\n\ndata: {\"type\": \"text\", \"text\": \"one\"}\n\ndata: [DONE]\n\n")
		v.end()
	})
	r := start(t, agentYAML("cycls", back.addr))
	op := r.operator()
	ask := `{"model":"it","seed":1,"frobnicate":1,"client's own":2,"messages":[{"role":"user","content":"a","name":"x"},{"role":"user","content":"b","name":"y"}],"stream":`
	for i, stream := range []string{"true", "false"} {
		if got := r.post("/v1/chat/completions", ask+stream+"}", ""); got.status != 200 {
			t.Fatal(got)
		}
		r.waitLog(i + 1)
	}
	// What is refused loses nothing, and what nobody serves has no agent.
	r.post("/v1/chat/completions", ask+"true}", "Dragoman-Strict: true\r\n")
	r.post("/v1/chat/completions", `{}`, "")
	r.get("/v1/nothing")
	r.waitLog(5)
	status, text := op.get("/metrics")
	if status != 200 {
		t.Fatal(status, text)
	}
	const cell = `{agent="it",face="chat",protocol="cycls",`
	asked := cell + `backend="` + back.addr + `",`
	for _, want := range []string{
		"# TYPE dragoman_requests_total counter",
		"dragoman_requests_total" + asked + `status="200",outcome="completed"} 2`,
		"dragoman_requests_total" + cell + `backend="",status="400",outcome="failed"} 1`,
		`dragoman_requests_total{agent="",face="chat",protocol="",backend="",status="400",outcome="failed"} 1`,
		`dragoman_requests_total{agent="",face="",protocol="",backend="",status="404",outcome="failed"} 1`,
		"dragoman_dropped_total" + cell + `side="request",field="seed"} 2`,
		"dragoman_dropped_total" + cell + `side="request",field="messages[].name"} 4`,
		"dragoman_dropped_total" + cell + `side="request",field="unknown"} 4`,
		"dragoman_dropped_total" + cell + `side="answer",field="ran_tool_call"} 2`,
		"dragoman_requests_running 0",
		"dragoman_draining 0",
		"go_goroutines ",
		"process_cpu_seconds_total ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is missing in\n%s", want, own(text))
		}
	}
	if samples := own(text); strings.Contains(samples, "frob") || strings.Contains(samples, "client") { // HELP lines speak of clients
		t.Errorf("a client's word in\n%s", own(text))
	}
}

// own is what of the metrics is the proxy's own.
func own(text string) string {
	var b strings.Builder
	for l := range strings.Lines(text) {
		if strings.HasPrefix(l, "dragoman_") {
			b.WriteString(l)
		}
	}
	return b.String()
}

// TestFieldLabel holds that labels have no indexes, no client's words and a bound.
func TestFieldLabel(t *testing.T) {
	t.Parallel()
	f := func(name, want string, wantN int) {
		t.Helper()
		if got, n := fieldLabel(name); got != want || n != wantN {
			t.Errorf("%q: got %q %d, want %q %d", name, got, n, want, wantN)
		}
	}
	f("seed", "seed", 1)
	f("messages[2].content[13]", "messages[].content[]", 1)
	f("tools[10].function.strict", "tools[].function.strict", 1)
	f("x-1", "x-1", 1)
	f("unknown(3)", "unknown", 3)
	f("more(12)", "other", 12)
	f("unknown(x)", "other", 1)
	f("a b", "other", 1)
	f("é", "other", 1)
	f(strings.Repeat("a", 101), "other", 1)
}

// TestFieldsAreBounded holds that the number of series has an end.
func TestFieldsAreBounded(t *testing.T) {
	t.Parallel()
	m := newMeters(&Server{})
	var ledger translate.Ledger
	for i := range 3 * maxFields {
		ledger = translate.Ledger{}
		ledger.Note("field_" + string(rune('a'+i%26)) + strings.Repeat("x", i/26%90) + string(rune('a'+i/2340)))
		m.lost(&record{agent: "it"}, "answer", ledger.Names())
	}
	var b strings.Builder
	m.set.WritePrometheus(&b)
	if n := strings.Count(b.String(), "\ndragoman_dropped_total{"); n > maxFields+1 || n < maxFields {
		t.Errorf("%d series", n)
	}
	if !strings.Contains(b.String(), `field="other"} `) {
		t.Error("nothing is called other")
	}
}

// TestCountingAllocatesNothing holds the price of a request that lost nothing.
func TestCountingAllocatesNothing(t *testing.T) {
	m := newMeters(&Server{})
	c := &call{begun: true, req: &translate.Request{}, log: record{agent: "it", face: "chat", backend: "cycls", status: 200}}
	m.count(c, "completed")
	if n := testing.AllocsPerRun(100, func() { m.count(c, "completed") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestAdminTellsWhy asks the operators' listener for its reasons, before and
// during a drain, which it outlives.
func TestAdminTellsWhy(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	back := stage(t, func(v *visit) {
		<-gate
		v.json(200, backendScripts[0].body)
	})
	r := start(t, agentYAML("chat", back.addr)+
		"  - {name: dead, protocol: chat, url: \"http://"+deadAddr(t)+"\", model: m}\n"+
		"  - {name: far, protocol: chat, url: \"http://192.0.2.1\", model: m}\n")
	op := r.operator()
	f := func(path string, status int, want ...string) {
		t.Helper()
		got, text := op.get(path)
		if got != status {
			t.Errorf("%s: %d, want %d", path, got, status)
		}
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%s: %q is missing in %q", path, w, text)
			}
		}
	}
	f("/livez", 200, "ok")
	f("/readyz", 200, "ready\n", "agent it takes connections", "agent dead takes no connections: ", "refused", "agent far does not live here")
	f("/", 404, "/metrics")
	f("/v1/chat/completions", 404)
	if got := r.get("/readyz"); got.status != 200 || strings.Contains(got.body, "agent") {
		t.Errorf("clients are told %q", got.body)
	}

	c := r.dial()
	c.send("POST", "/v1/chat/completions", `{"model":"it","messages":[{"role":"user","content":"x"}]}`, "")
	<-back.seen
	down := make(chan error, 1)
	go func() { down <- r.Shutdown(context.Background()) }()
	for !r.draining.Load() {
		runtime.Gosched() // Shutdown's first act; nothing else tells of it
	}
	f("/readyz", 503, "not ready\n", "shutting down, running requests: 1")
	f("/livez", 200)
	f("/metrics", 200, "dragoman_draining 1", "dragoman_requests_running 1")
	close(gate)
	if got := c.reply(); got.status != 200 {
		t.Errorf("the request that ran: %d", got.status)
	}
	if err := <-down; err != nil {
		t.Error(err)
	}
	if c, err := net.Dial("tcp", op.addr); err == nil {
		_ = c.Close()
		t.Error("the admin listener outlives the proxy")
	}
}

// TestUnreadableRequestsAreCounted: what is not HTTP is a request that ended too, counted
// once, and its line in the log has the id that the client was told.
func TestUnreadableRequestsAreCounted(t *testing.T) {
	t.Parallel()
	r := start(t, demoYAML)
	for status, raw := range map[string]string{
		"400": "GET /v1/models HTTP/1.1\r\nnonsense\r\n\r\n",
		"431": "GET /v1/models HTTP/1.1\r\nX-Long: " + strings.Repeat("x", 1<<20) + "\r\n\r\n",
	} {
		c := r.dial()
		go func() { _, _ = io.WriteString(c.bare(), raw) }()
		got := c.reply()
		if strconv.Itoa(got.status) != status {
			t.Errorf("got %d, want %s", got.status, status)
		}
		series := `dragoman_requests_total{agent="",face="",protocol="",backend="",status="` + status + `",outcome="failed"}`
		waitFor(t, "the line", func() bool { return r.metric(series) != "" })
		if n := r.metric(series); n != "1" {
			t.Errorf("%s: counted %s times", status, n)
		}
		id := got.header.Get("X-Request-Id")
		waitFor(t, "the line", func() bool { return r.logs.FilterField(zap.String("request_id", id)).Len() == 1 })
	}
}

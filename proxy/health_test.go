package proxy

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dragoman-proxy/dragoman/internal/state"
)

// TestReadiness holds which agents count, and that one with several backends is ready if
// one of them is.
func TestReadiness(t *testing.T) {
	t.Parallel()
	back := stage(t, func(v *visit) {})
	f := func(yaml string, ready bool, want []string, tune ...func(*Server)) {
		t.Helper()
		r := start(t, yaml, tune...)
		op := r.operator()
		status, text := op.get("/readyz")
		if (status == 200) != ready || status != 200 && status != 503 {
			t.Errorf("%d, want ready %v: %s", status, ready, text)
		}
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%q is missing in %q", w, text)
			}
		}
		if got := r.get("/readyz"); got.status != status || strings.Contains(got.body, "agent") {
			t.Errorf("clients get %d %q", got.status, got.body)
		}
		if status, _ := op.get("/livez"); status != 200 {
			t.Errorf("alive: %d", status)
		}
		if got := r.get("/livez"); got.status != 200 {
			t.Errorf("alive, to clients: %d", got.status)
		}
	}
	list := func(more string, urls ...string) string {
		return "agents:\n  - {name: it, protocol: chat, model: m, urls: [\"" + strings.Join(urls, `", "`) + "\"]" + more + "}\n"
	}
	up, down, far := "http://"+back.addr, "http://"+deadAddr(t), "http://192.0.2.1:9"
	f(list("", up), true, []string{"ready\n", "agent it takes connections"})
	f(list("", down), false, []string{"not ready\n", "agent it takes no connections: ", "refused"})
	f(list("", down, up), true, []string{"agent it at " + down[7:] + " takes no connections", "agent it at " + up[7:] + " takes connections"})
	f(list("", far), true, []string{"agent it does not live here and does not count"})
	f(list("", far, down), false, []string{"does not count", "takes no connections"})
	// A backend that is asked for counts wherever it lives, by its checks where there are any.
	mark := func(up bool) func(*Server) {
		return func(s *Server) {
			a := s.snapshot().agents[&s.snapshot().conf.Agents[0]]
			a.conf.Health.Ready = true
			for _, m := range a.set.Members() {
				m.SetHealth(up)
			}
		}
	}
	f(list("", far), false, []string{"agent it is down: its checks fail"}, mark(false))
	f(list("", far, "http://192.0.2.2:9"), false, []string{"agent it at 192.0.2.1:9 is down", "agent it at 192.0.2.2:9 is down"}, mark(false))
	checked := "http://" + stage(t, func(v *visit) { v.json(200, "{}") }).addr // the checks find what is set here
	f(list("", far, checked), true, []string{"agent it at 192.0.2.1:9 is down", "agent it at " + checked[7:] + " passes its checks"}, mark(false), func(s *Server) {
		a := s.snapshot().agents[&s.snapshot().conf.Agents[0]]
		a.conf.Health.Interval = longest
		a.set.Members()[1].SetHealth(true)
	})
	// What takes connections and fails its checks is down.
	f(list("", up), false, []string{"agent it is down: its checks fail"}, mark(false))
}

// TestReadinessDoesNotWait for an agent, or for a store, that says nothing: a probe has a second or two of its own.
func TestReadinessDoesNotWait(t *testing.T) {
	t.Parallel()
	r := start(t, "state: {store: memory}\n"+agentYAML("chat", "127.0.0.1:1"), func(s *Server) {
		s.looks = 10 * time.Millisecond
		s.snapshot().agent("it").backends[0].dial = stuckDialer(make(chan struct{}, 1))
		s.state = mute{s.state}
	})
	if status, text := r.operator().get("/readyz"); status != 503 || strings.Count(text, "deadline exceeded") != 2 {
		t.Errorf("%d %q", status, text)
	}
}

// mute is a store that does not answer whether it works.
type mute struct{ state.Store }

func (mute) Ping(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// TestNotReadyAtOnce holds that a drain is seen by the next probe, on both listeners, and
// that the proxy stays alive.
func TestNotReadyAtOnce(t *testing.T) {
	t.Parallel()
	back := stage(t, func(v *visit) {})
	r := start(t, agentYAML("chat", back.addr))
	op := r.operator()
	if status, _ := op.get("/readyz"); status != 200 {
		t.Fatal(status)
	}
	r.Drain()
	if status, text := op.get("/readyz"); status != 503 || !strings.Contains(text, "shutting down, running requests: 0") {
		t.Errorf("%d %q", status, text)
	}
	if got := r.get("/readyz"); got.status != 503 {
		t.Errorf("clients get %d", got.status)
	}
	if status, _ := op.get("/livez"); status != 200 {
		t.Errorf("alive: %d", status)
	}
	if resp, err := http.Get("http://" + op.addr + "/livez"); err != nil || !resp.Close { //nolint:noctx // the listener is this test's
		t.Errorf("operators are not told to come anew: %v %v", resp, err)
	} else {
		_ = resp.Body.Close()
	}
	if c, err := net.Dial("tcp", r.addr); err != nil {
		t.Error(err)
	} else {
		_ = c.Close()
	}
}

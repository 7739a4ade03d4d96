package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dragoman-proxy/dragoman/internal/balance"
)

// TestTimeoutsAndNamesAsReasons: a connection that does not come about in time and a name
// without an address reached nobody, so that others are asked, be it another replica or a
// fallback; an agent that is silent may have run, so that they are only for one that is
// idempotent.
func TestTimeoutsAndNamesAsReasons(t *testing.T) {
	t.Parallel()
	good := stage(t, func(v *visit) { backendScripts[0].answerIn(v, strings.Contains(string(v.body), `"stream":true`)) })
	silent := stage(t, func(v *visit) { v.gone() })
	for name, c := range map[string]struct {
		first string
		more  string // of the first agent alone
		tune  func(o *origin)
		ran   bool
		want  int
	}{
		"connect": {deadAddr(t), "", func(o *origin) {
			o.cfg.ConnectTimeout = 10 * time.Millisecond
			o.dial = func(ctx context.Context) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
		}, false, 504},
		"name": {deadAddr(t), "", func(o *origin) {
			o.cfg.Lookup = func(context.Context, string) ([]netip.Addr, error) { return nil, errNXDomain }
			o.cfg.Addr = "agent.test:80"
			_, _, o.named = o.cfg.hostName()
			o.dial = o.cfg.dialer()
		}, false, 502},
		"first byte": {silent.addr, "timeouts: {first_byte: 200ms}", nil, true, 504},
	} {
		for _, idempotent := range []bool{false, true} {
			for _, stream := range []bool{false, true} {
				for _, to := range []string{"replica", "fallback"} {
					if c.more != "" && to == "replica" {
						continue // the other one would have no more time
					}
					t.Run(fmt.Sprintf("%s/idempotent=%t/stream=%t/%s", name, idempotent, stream, to), func(t *testing.T) {
						t.Parallel()
						addrs, more := []string{c.first}, []string{"retry: {idempotent: " + boolText(idempotent) + "}"}
						if to == "replica" {
							addrs = append(addrs, good.addr)
						} else {
							more = append(more, "fallback: [other]")
						}
						if c.more != "" {
							more = append(more, c.more)
						}
						r := start(t, "agents:\n"+replicated("it", "chat", addrs, more...)+replicated("other", "chat", []string{good.addr}), func(s *Server) {
							if c.tune != nil {
								c.tune(s.snapshot().agent("it").backends[0].origin)
							}
						})
						f := clientFaces[0]
						body, headers := f.ask("hello", stream)
						got := r.post("/agents/it"+f.path, body, headers)
						if c.ran && !idempotent {
							if got.status != c.want || got.header.Get("Dragoman-Attempts") != "" || got.header.Get("X-Should-Retry") != "false" {
								t.Errorf("%d after %q: %v %s", got.status, got.header.Get("Dragoman-Attempts"), got.header, got.body)
							}
							return
						}
						if got.status != 200 || f.text(got.body, stream) != "one two" || got.header.Get("Dragoman-Attempts") != "2" {
							t.Errorf("%d after %q: %s", got.status, got.header.Get("Dragoman-Attempts"), got.body)
						}
					})
				}
			}
		}
	}
}

// TestWhatIsDownIsNotAsked: a check that says so sends requests to the other replica, and where
// there is none to the fallback, at no cost; and nobody of the agent is asked until it is up.
func TestWhatIsDownIsNotAsked(t *testing.T) {
	t.Parallel()
	sick := stage(t, func(v *visit) {
		if v.req.Method == http.MethodPost {
			t.Error("what is down was asked")
		}
		v.json(503, "{}")
	})
	well := func() *stagedAgent {
		return stage(t, func(v *visit) {
			if v.req.Method == http.MethodPost {
				backendScripts[0].answerIn(v, false)
			} else {
				v.json(200, "{}")
			}
		})
	}
	for agent, yaml := range map[string]string{
		"it":    "agents:\n" + replicated("it", "chat", []string{sick.addr, well().addr}),
		"other": "agents:\n" + replicated("it", "chat", []string{sick.addr}, "fallback: [other]") + replicated("other", "chat", []string{well().addr}),
	} {
		r := start(t, yaml, checked(time.Hour, ""))
		m := r.agentOf("it").set.Members()[0]
		waitFor(t, "it to be down", func() bool { return m.State() == balance.Down })
		for range 8 {
			got := r.post("/agents/it/v1/chat/completions", chatHello, "")
			if got.status != 200 || got.header.Get("Dragoman-Agent") != agent || got.header.Get("Dragoman-Attempts") != "" {
				t.Errorf("%d by %q after %q", got.status, got.header.Get("Dragoman-Agent"), got.header.Get("Dragoman-Attempts"))
			}
		}
	}
}

// mortal is a backend on a unix socket, whose name nobody else takes when it is dead.
type mortal struct {
	url string
	srv *http.Server
	end chan struct{}
}

func newMortal(t *testing.T) *mortal {
	t.Helper()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	m := &mortal{url: "unix:" + path, end: make(chan struct{}), srv: &http.Server{
		ReadHeaderTimeout: longest,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			_, _ = io.Copy(io.Discard, req.Body)
			w.Header().Set("Content-Type", "application/json")
			_, _ = io.WriteString(w, backendScripts[0].body)
		}),
	}}
	go func() {
		defer close(m.end)
		_ = m.srv.Serve(ln)
	}()
	t.Cleanup(func() {
		m.kill()
		_ = os.RemoveAll(dir)
	})
	return m
}

// kill closes its listener and all its connections, whatever goes on there.
func (m *mortal) kill() {
	_ = m.srv.Close()
	<-m.end
}

// TestReplicaDiesUnderLoad: one of three is killed while clients ask without a pause. A request
// that the dead one may have begun fails, and says so, unless the agent is idempotent; no other
// does, at that moment or later.
func TestReplicaDiesUnderLoad(t *testing.T) {
	t.Parallel()
	const clients, before, after = 6, 30, 30
	for _, idempotent := range []bool{false, true} {
		t.Run("idempotent="+boolText(idempotent), func(t *testing.T) {
			t.Parallel()
			var urls []string
			var all []*mortal
			for range 3 {
				m := newMortal(t)
				all, urls = append(all, m), append(urls, m.url)
			}
			yaml := strings.Replace(replicated("it", "chat", []string{"X"}, "retry: {idempotent: "+boolText(idempotent)+", attempts: 2, budget: 1}"), `"http://X"`, `"`+strings.Join(urls, `", "`)+`"`, 1)
			r := start(t, "agents:\n"+yaml)
			var warm, ended sync.WaitGroup
			dead := make(chan struct{})
			for range clients {
				c := r.dial()
				warm.Add(1)
				ended.Go(func() {
					left := after
					for n := 0; left > 0; n++ {
						if n == before {
							warm.Done()
						}
						late := false
						select {
						case <-dead:
							late = true
							left--
						default:
						}
						c.send("POST", "/v1/chat/completions", chatHello, "")
						switch got := c.reply(); {
						case got.status == 200:
						case idempotent || late:
							t.Errorf("%d behind its death (%t): %s", got.status, late, got.body)
						case got.status != 502 || got.header.Get("X-Should-Retry") != "false":
							t.Errorf("%d for what it may have begun: %v %s", got.status, got.header, got.body)
						}
					}
				})
			}
			warm.Wait()
			all[1].kill()
			close(dead)
			ended.Wait()
		})
	}
}

// TestTheLastBackendIsAskedOn: where all have failed and there is no fallback, requests go to
// them nevertheless, and the first success brings one back.
func TestTheLastBackendIsAskedOn(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 3} {
		var mu sync.Mutex
		healed := false
		back := stageReplicas(t, n, func(v *visit, _ int) {
			mu.Lock()
			defer mu.Unlock()
			if healed {
				backendScripts[0].answerIn(v, false)
			} else {
				v.json(502, "{}")
			}
		})
		still := time.Now()
		r := start(t, "agents:\n"+replicated("it", "chat", back.addrs(), "balance: {failures: 1}"), func(s *Server) {
			s.clock = func() time.Time { return still } // no trial is ever due
		})
		const asked = 12
		for i := range asked {
			if got := r.post("/v1/chat/completions", chatHello, ""); got.status != 502 {
				t.Errorf("of %d, request %d: %d %s", n, i, got.status, got.body)
			}
		}
		for _, m := range r.first().set.Members() {
			if m.State() != balance.Open {
				t.Errorf("of %d, one is %v", n, m.State())
			}
		}
		if got := back.asked.Load(); got != asked {
			t.Errorf("of %d: asked %d times, want %d", n, got, asked)
		}
		mu.Lock()
		healed = true
		mu.Unlock()
		for range 4 {
			if got := r.post("/v1/chat/completions", chatHello, ""); got.status != 200 {
				t.Errorf("of %d, healed: %d %s", n, got.status, got.body)
			}
		}
		if n > 1 && r.first().set.Members()[0].State() == r.first().set.Members()[1].State() && r.first().set.Members()[1].State() == r.first().set.Members()[2].State() {
			t.Error("that one works says nothing of the others")
		}
	}
}

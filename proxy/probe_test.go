package proxy

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/dragoman-proxy/dragoman/internal/balance"
	"github.com/dragoman-proxy/dragoman/internal/config"
	"github.com/dragoman-proxy/dragoman/translate"
)

// checked has a server's first agent be checked often.
func checked(every time.Duration, path string) func(*Server) {
	return func(s *Server) {
		for _, a := range s.snapshot().agents {
			a.conf.Health.Interval, a.conf.Health.Path = every, path
			if a.conf.Health.Timeout == 0 {
				a.conf.Health.Timeout = 2 * time.Second
			}
		}
	}
}

// TestProbeAsksWhatCostsNothing: each protocol's own free route is asked with the agent's credential and headers; a path of the operator's
// without them.
func TestProbeAsksWhatCostsNothing(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ name, protocol, more, path, want string }{
		{"chat", "chat", "", "", "/v1/models"},
		{"chat at a path", "chat", "path: /openai/v9/chat/completions", "", "/openai/v9/models"},
		{"responses", "responses", "", "", "/v1/models"},
		{"swarms", "swarms", "", "", "/health"},
		{"cycls", "cycls", "", "", "/config"},
		{"cycls of old", "cycls", "path: /chat/completions", "", "/config"},
		{"a path", "chat", "", "/healthz", "/healthz"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := stage(t, func(v *visit) { v.json(200, `{}`); v.hangs = true })
			more := []string{`credential: {header: X-Api-Key, value: {value: secret-key-of-the-agent}}`, `headers: {X-Team: support}`}
			if tt.more != "" {
				more = append(more, tt.more)
			}
			start(t, agentYAML(tt.protocol, b.addr+"/base", more...), checked(time.Hour, tt.path))
			v := <-b.seen
			if v.req.Method != "GET" || v.req.URL.Path != "/base"+tt.want || len(v.body) != 0 {
				t.Errorf("asked %s %s, want GET /base%s", v.req.Method, v.req.URL.Path, tt.want)
			}
			key, team := v.req.Header.Get("X-Api-Key"), v.req.Header.Get("X-Team")
			if tt.path == "" && (key != "secret-key-of-the-agent" || team != "support") {
				t.Errorf("credential %q and header %q, want the agent's", key, team)
			}
			if tt.path != "" && key+team != "" {
				t.Errorf("credential %q and header %q went to a path that the operator named", key, team)
			}
			if v.req.Host != b.addr || !v.req.Close {
				t.Errorf("Host %q, close %v; want the backend's, on a connection of its own", v.req.Host, v.req.Close)
			}
		})
	}
}

// TestProbeConnectsWhereThereIsNothingToAsk: protocols without a free route are sent nothing.
func TestProbeConnectsWhereThereIsNothingToAsk(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"cognipeer", "ticos"} {
		got := make(chan string, 10)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				b, _ := io.ReadAll(c)
				_ = c.Close()
				got <- string(b)
			}
		})
		start(t, agentYAML(protocol, ln.Addr().String()), checked(time.Hour, ""))
		if s := <-got; s != "" {
			t.Errorf("%s: sent %q, want nothing", protocol, s)
		}
		_ = ln.Close()
		wg.Wait()
	}
}

// mood is a backend that answers checks as a test wants, in memory, by the bubble's clock.
type mood struct {
	mu     sync.Mutex
	status int // 0: refuses; -1: never answers; -2: closes without an answer; -3: this machine has no descriptors
	asked  []time.Time
	wg     sync.WaitGroup
}

func (m *mood) is(status int) {
	m.mu.Lock()
	m.status = status
	m.mu.Unlock()
}

func (m *mood) times() []time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.asked)
}

// bubbled is a proxy in a bubble that only checks, and its backend.
func bubbled(t *testing.T, health config.Health, agents ...string) (*Server, *mood, *observer.ObservedLogs) {
	t.Helper()
	if len(agents) == 0 {
		agents = []string{"it"}
	}
	b := &mood{status: 200}
	dial := func() (net.Conn, error) {
		b.mu.Lock()
		b.asked = append(b.asked, time.Now())
		status := b.status
		b.mu.Unlock()
		if status == -3 {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", syscall.EMFILE)}
		}
		if status == 0 {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("refused by canary-word")}
		}
		mine, theirs := net.Pipe()
		b.wg.Go(func() {
			defer theirs.Close()
			buf := make([]byte, 4096)
			for got := ""; !strings.Contains(got, "\r\n\r\n"); {
				n, err := theirs.Read(buf)
				if err != nil {
					return
				}
				got += string(buf[:n])
			}
			switch {
			case status == -1:
				_, _ = io.Copy(io.Discard, theirs) // until the other side gives up
			case status > 0:
				fmt.Fprintf(theirs, "HTTP/1.1 %d canary-word\r\nContent-Length: 11\r\nX-Why: canary-word\r\n\r\ncanary-word", status)
			}
		})
		return mine, nil
	}
	core, logs := observer.New(zap.InfoLevel)
	s := &Server{log: zap.New(core)}
	snap := &snapshot{conf: &config.Config{}, agents: map[*config.Agent]*agent{}}
	for _, name := range agents {
		conf := config.DefaultAgent()
		conf.Name, conf.Health = name, health
		m := balance.NewMember("host:1")
		snap.agents[&conf] = &agent{
			conf: &conf, protocol: translate.Lookup("chat"), paths: []string{"/v1/chat/completions"},
			backends: []*backend{{name: "host:1", host: "host", origin: newOrigin(originConfig{Scheme: "http", Dial: func(context.Context) (net.Conn, error) { return dial() }})}},
			set:      balance.New(balance.Options{}, m),
		}
	}
	s.current.Store(snap)
	return s, b, logs
}

func (s *Server) onlyMember() *balance.Member {
	for a := range maps.Values(s.snapshot().agents) {
		return a.set.Members()[0]
	}
	return nil
}

// turn lets the bubble's time pass.
func turn(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // the bubble's clock
	synctest.Wait()
}

func wantLogs(t *testing.T, logs *observer.ObservedLogs, want ...string) {
	t.Helper()
	var got []string
	for _, l := range logs.TakeAll() {
		line := l.Message
		for _, f := range l.Context {
			if strings.Contains(f.String, "canary-word") {
				t.Errorf("a backend's word is in the log: %v", l)
			}
			if f.Key == "reason" {
				line += ": " + f.String
			}
		}
		got = append(got, line)
	}
	if !slices.Equal(got, want) {
		t.Errorf("logged %q, want %q", got, want)
	}
}

// TestProbeTurnsAfterTwo: two failures in a row are down, two successes up again, and each change is told once.
func TestProbeTurnsAfterTwo(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		bad    int
		reason string
	}{
		{"refused", 0, "no connection"}, {"silent", -1, "no answer in time"}, {"closed", -2, "no answer"}, {"503", 503, "status 503"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s, b, logs := bubbled(t, config.Health{Interval: 10 * time.Second, Timeout: 2 * time.Second})
				s.startProbes()
				m := s.onlyMember()
				// next waits for the next check, which comes within eleven seconds, and its two.
				next := func(want balance.State) {
					t.Helper()
					for n := len(b.times()); len(b.times()) == n; {
						turn(100 * time.Millisecond)
					}
					turn(2 * time.Second)
					if got := m.State(); got != want {
						t.Errorf("after check %d it is %v, want %v", len(b.times()), got, want)
					}
				}
				synctest.Wait()
				wantLogs(t, logs)
				b.is(tt.bad)
				next(balance.Closed)
				b.is(200)
				next(balance.Closed)
				b.is(tt.bad)
				next(balance.Closed)
				next(balance.Down)
				next(balance.Down)
				wantLogs(t, logs, "backend is down: "+tt.reason)
				b.is(200)
				next(balance.Down)
				b.is(tt.bad)
				next(balance.Down)
				b.is(200)
				next(balance.Down)
				next(balance.Closed)
				next(balance.Closed)
				wantLogs(t, logs, "backend is up")
				s.stopProbes()
				b.wg.Wait()
			})
		})
	}
}

// TestFirstProbeCounts: a backend that is down when the proxy begins is known to be at once.
func TestFirstProbeCounts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, b, logs := bubbled(t, config.Health{Interval: time.Hour})
		b.is(0)
		s.startProbes()
		synctest.Wait()
		if got := s.onlyMember().State(); got != balance.Down {
			t.Errorf("it is %v, want down", got)
		}
		wantLogs(t, logs, "backend is down: no connection")
		s.stopProbes()
		s.startProbes() // never again
		turn(3 * time.Hour)
		if got := len(b.times()); got != 1 {
			t.Errorf("%d checks after the end, want none more", got-1)
		}
	})
}

// TestProbesThatCouldNotAskSayNothing: that this machine has no descriptors is no news of a
// backend, be it up, down, or not known yet.
func TestProbesThatCouldNotAskSayNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, b, logs := bubbled(t, config.Health{Interval: 10 * time.Second})
		m := s.onlyMember()
		for _, step := range []struct {
			status int
			want   balance.State
			log    []string
		}{
			{-3, balance.Closed, nil},
			{200, balance.Closed, nil},
			{-3, balance.Closed, nil},
			{0, balance.Down, []string{"backend is down: no connection"}},
			{-3, balance.Down, nil},
			{200, balance.Closed, []string{"backend is up"}},
		} {
			b.is(step.status)
			if len(b.times()) == 0 {
				s.startProbes()
			}
			turn(40 * time.Second)
			if got := m.State(); got != step.want {
				t.Errorf("after %d it is %v, want %v", step.status, got, step.want)
			}
			wantLogs(t, logs, step.log...)
		}
		s.stopProbes()
		b.wg.Wait()
	})
}

// TestProbesAreSpread: the interval varies by a tenth, so that many proxies do not ask together.
func TestProbesAreSpread(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, b, _ := bubbled(t, config.Health{Interval: 10 * time.Second})
		s.startProbes()
		turn(1000 * time.Second)
		s.stopProbes()
		b.wg.Wait()
		times := b.times()
		different := map[time.Duration]bool{}
		for i := range len(times) - 1 {
			d := times[i+1].Sub(times[i])
			if d < 9*time.Second || d > 11*time.Second+time.Millisecond {
				t.Errorf("%v between two checks, want 9 to 11 s", d)
			}
			different[d] = true
		}
		if len(times) < 90 || len(different) < 50 {
			t.Errorf("%d checks in 1000 s, %d different pauses", len(times), len(different))
		}
	})
}

// TestProbesStopInTheMidstOfACheck: the end does not wait for a backend that is silent.
func TestProbesStopInTheMidstOfACheck(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s, b, logs := bubbled(t, config.Health{Interval: time.Second, Timeout: time.Hour})
		b.is(-1)
		s.startProbes()
		synctest.Wait()
		begin := time.Now()
		s.stopProbes()
		b.wg.Wait()
		if d := time.Since(begin); d != 0 {
			t.Errorf("the end took %v", d)
		}
		if got := s.onlyMember().State(); got != balance.Closed {
			t.Errorf("a check that was given up made it %v", got)
		}
		wantLogs(t, logs)
	})
}

// TestProbesFollowAReload: what stayed goes on as it was, what is gone is asked no more, what is new at once.
func TestProbesFollowAReload(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		health := config.Health{Interval: 10 * time.Second}
		s, kept, logs := bubbled(t, health)
		other, gone, _ := bubbled(t, health)
		third, fresh, _ := bubbled(t, health)
		add := func(from *Server) {
			next := &snapshot{conf: &config.Config{}, agents: maps.Clone(s.snapshot().agents)}
			maps.Copy(next.agents, from.snapshot().agents)
			s.current.Store(next)
			s.followProbes()
		}
		base := s.snapshot()
		add(other)
		synctest.Wait()
		if len(kept.times())+len(gone.times()) != 0 {
			t.Error("checks began before the server")
		}
		s.startProbes()
		synctest.Wait()
		kept.is(0)
		for m := s.snapshot(); m != nil && len(kept.times()) < 2; {
			turn(100 * time.Millisecond)
		}
		// One failure so far. The reload takes one away and brings another.
		asked, before := len(gone.times()), len(kept.times())
		s.current.Store(base)
		add(third)
		synctest.Wait()
		if got := len(fresh.times()); got != 1 {
			t.Errorf("a new backend was checked %d times at once, want once", got)
		}
		if got := len(kept.times()); got != before {
			t.Error("one that stayed was checked out of turn")
		}
		turn(11 * time.Second)
		wantLogs(t, logs, "backend is down: no connection") // the second in a row, across the reload
		if got := len(gone.times()); got != asked {
			t.Errorf("one that is gone was checked %d times more", got-asked)
		}
		s.stopProbes()
		kept.wg.Wait()
		gone.wg.Wait()
		fresh.wg.Wait()
	})
}

// TestProbedBackendThatDiesIsAvoided is the whole of it over real connections: of two urls one dies, and comes back.
func TestProbedBackendThatDiesIsAvoided(t *testing.T) {
	t.Parallel()
	var dead atomic.Bool
	serve := func(bad *atomic.Bool) string {
		b := stage(t, func(v *visit) {
			switch {
			case v.req.Method == http.MethodPost:
				answerChat(v)
			case bad != nil && bad.Load():
				v.json(500, `{}`)
			default:
				v.json(404, `{}`) // it has no models to list, and works
			}
			v.hangs = true
		})
		return b.addr
	}
	one, two := serve(&dead), serve(nil)
	p := start(t, agentYAML("chat", one), func(s *Server) {
		a := (&running{Server: s}).first()
		target := a.conf.URLs[0]
		target.Host = two
		b, err := newReplica(a.conf, target, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		a.backends = append(a.backends, b)
		a.set = balance.New(balance.Options{}, balance.NewMember(one), balance.NewMember(two))
	}, checked(5*time.Millisecond, ""))
	m := p.first().set.Members()
	dead.Store(true)
	waitFor(t, "it to be seen down", func() bool { return m[0].State() == balance.Down })
	if m[1].State() != balance.Closed {
		t.Error("a backend without the free route is down")
	}
	for range 4 {
		if r := p.post("/v1/chat/completions", helloChat, ""); r.status != 200 {
			t.Errorf("got %d", r.status)
		}
	}
	dead.Store(false)
	waitFor(t, "it to be seen up", func() bool { return m[0].State() == balance.Closed })
}

// TestProbesFollowTheServer: they begin with Serve, follow a reload, and end with Shutdown.
func TestProbesFollowTheServer(t *testing.T) {
	t.Parallel()
	answer := func(v *visit) { v.json(200, `{}`); v.hangs = true }
	before, after := stage(t, answer), stage(t, answer)
	p := start(t, agentYAML("chat", before.addr, "health: {interval: 1h}"))
	<-before.seen
	conf, problems := config.Parse("test.yaml", []byte("auth: {mode: none}\n"+agentYAML("chat", after.addr, "health: {interval: 1h}")),
		config.Options{Protocols: translate.Names(), OptionCheck: translate.CheckOption})
	if conf == nil {
		t.Fatal(problems)
	}
	if err := p.Reload(conf); err != nil {
		t.Fatal(err)
	}
	<-after.seen
	if err := p.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	p.probes.mu.Lock()
	defer p.probes.mu.Unlock()
	if !p.probes.stopped || len(p.probes.of) != 0 {
		t.Error("the checks go on after the end")
	}
}

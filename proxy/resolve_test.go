package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// fakeDNS is a name server under a test's control.
type fakeDNS struct {
	mu    sync.Mutex
	addrs []netip.Addr
	err   error
	hangs bool
	asked int
}

func (d *fakeDNS) set(err error, hangs bool, addrs ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err, d.hangs, d.addrs = err, hangs, nil
	for _, a := range addrs {
		d.addrs = append(d.addrs, netip.MustParseAddr(a))
	}
}

func (d *fakeDNS) lookup(ctx context.Context, _ string) ([]netip.Addr, error) {
	d.mu.Lock()
	addrs, err, hangs := d.addrs, d.err, d.hangs
	d.asked++
	d.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return nil, &net.DNSError{Err: "i/o timeout", Name: "agent.test", IsTimeout: true, IsTemporary: true}
	}
	return addrs, err
}

func (d *fakeDNS) times() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked
}

var (
	errServfail = &net.DNSError{Err: "server misbehaving", Name: "agent.test", IsTemporary: true}
	errNXDomain = &net.DNSError{Err: "no such host", Name: "agent.test", IsNotFound: true}
)

// by has the proxy's first backend be found by name, at a name server of the test's.
func by(dns *fakeDNS, port string) func(*Server) {
	return func(s *Server) {
		for _, a := range s.snapshot().agents {
			o := a.backends[0].origin
			o.cfg.Lookup = dns.lookup
			o.cfg.Addr = net.JoinHostPort("agent.test", port)
			_, _, o.named = o.cfg.hostName()
			o.dial = o.cfg.dialer()
		}
	}
}

func portOf(t *testing.T, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

const helloChat = `{"messages":[{"role":"user","content":"hi"}]}`

func answerChat(v *visit) {
	v.json(200, `{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant","content":"hello"},"finish_reason":"stop"}]}`, "Connection: close") // each request needs a new one
	v.hangs = true
}

// TestUpstreamDNSGone: the name servers fail while the proxy runs.
func TestUpstreamDNSGone(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		err   error
		hangs bool
		known bool // it was asked before
		want  int
		says  string
	}{
		{"servers fail", errServfail, false, true, 200, ""},
		{"servers are silent", nil, true, true, 200, ""},
		{"the name is gone", errNXDomain, false, true, 502, "cannot be reached"},
		{"servers failed from the beginning", errServfail, false, false, 502, "cannot be reached"},
		{"servers were silent from the beginning", nil, true, false, 504, "did not answer in time"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := stage(t, answerChat)
			dns := &fakeDNS{}
			dns.set(nil, false, "127.0.0.1")
			p := start(t, agentYAML("chat", b.addr, "timeouts: {connect: 1s}"), by(dns, portOf(t, b.addr)))
			if tt.known {
				if r := p.post("/v1/chat/completions", helloChat, ""); r.status != 200 {
					t.Fatalf("before: %d %s", r.status, r.body)
				}
			}
			dns.set(tt.err, tt.hangs)
			r := p.post("/v1/chat/completions", helloChat, "")
			if r.status != tt.want || !strings.Contains(r.body, tt.says) {
				t.Errorf("got %d %s, want %d that says %q", r.status, r.body, tt.want, tt.says)
			}
			if r.header.Get("X-Should-Retry") == "false" {
				t.Error("told not to retry what reached nobody")
			}
			dns.set(nil, false, "127.0.0.1")
			if !tt.known || tt.want != 200 {
				if r := p.post("/v1/chat/completions", helloChat, ""); r.status != 200 {
					t.Errorf("after they came back: %d %s", r.status, r.body)
				}
			}
		})
	}
}

// TestChangedNameIsFollowed: a name that means another address is dialled there.
func TestChangedNameIsFollowed(t *testing.T) {
	t.Parallel()
	b := stage(t, answerChat)
	dns := &fakeDNS{}
	dns.set(nil, false, "127.0.0.1")
	p := start(t, agentYAML("chat", b.addr), by(dns, portOf(t, b.addr)))
	p.post("/v1/chat/completions", helloChat, "")
	dns.set(nil, false, "127.0.0.2") // where nobody is
	if r := p.post("/v1/chat/completions", helloChat, ""); r.status != 502 {
		t.Errorf("after the name changed: %d, want 502 from where nobody is", r.status)
	}
	if len(b.seen) != 1 {
		t.Errorf("%d requests at the old address, want the first alone", len(b.seen))
	}
}

// TestReboundNameIsRefused: a name that comes to mean a metadata service is not dialled, whoever else it means.
func TestReboundNameIsRefused(t *testing.T) {
	t.Parallel()
	b := stage(t, answerChat)
	dns := &fakeDNS{}
	dns.set(nil, false, "169.254.169.254", "fd00:ec2::254")
	p := start(t, agentYAML("chat", b.addr), by(dns, portOf(t, b.addr)))
	if r := p.post("/v1/chat/completions", helloChat, ""); r.status != 502 {
		t.Errorf("%d, want 502", r.status)
	}
	_, err := p.first().backends[0].origin.roundTrip(nil, testHead, testBody, testLimit)
	wantError(t, err, upstreamError{Op: "dial", Err: errForbiddenAddress})
	dns.set(nil, false, "169.254.169.254", "127.0.0.1")
	if r := p.post("/v1/chat/completions", helloChat, ""); r.status != 200 {
		t.Errorf("%d with a good address beside it, want 200", r.status)
	}
}

func TestAllAddressesAreTried(t *testing.T) {
	t.Parallel()
	b := stage(t, answerChat)
	for name, addrs := range map[string][]string{
		"one refuses":        {"127.0.0.2", "127.0.0.1"},
		"the other family":   {"::1", "127.0.0.1"},
		"the first is mute":  {"192.0.2.1", "127.0.0.1"}, // TEST-NET-1
		"the last of many":   {"127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5", "127.0.0.1"},
		"four in six":        {"::ffff:127.0.0.1"},
		"the first of these": {"127.0.0.1", "192.0.2.1", "192.0.2.2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dns := &fakeDNS{}
			dns.set(nil, false, addrs...)
			o := newOrigin(originConfig{Scheme: "http", Addr: "agent.test:" + portOf(t, b.addr), Lookup: dns.lookup})
			defer o.close()
			if got := fetch(t, o); !strings.Contains(got, "hello") {
				t.Errorf("got %s", got)
			}
		})
	}
	dns := &fakeDNS{}
	dns.set(nil, false, "127.0.0.2", "127.0.0.3")
	o := newOrigin(originConfig{Scheme: "http", Addr: "agent.test:" + portOf(t, b.addr), Lookup: dns.lookup})
	_, err := o.roundTrip(nil, testHead, testBody, testLimit)
	wantError(t, err, upstreamError{Op: "dial", Err: syscall.ECONNREFUSED})
}

// TestFamiliesTakeTurns: what begins and the order within a family are the resolver's.
func TestFamiliesTakeTurns(t *testing.T) {
	t.Parallel()
	parse := func(list string) (out []netip.Addr) {
		for a := range strings.FieldsSeq(list) {
			out = append(out, netip.MustParseAddr(a))
		}
		return out
	}
	for in, want := range map[string]string{
		"::1 ::2 ::3 1.1.1.1 1.1.1.2": "::1 1.1.1.1 ::2 1.1.1.2 ::3",
		"1.1.1.1 1.1.1.2 ::1":         "1.1.1.1 ::1 1.1.1.2",
		"1.1.1.1":                     "1.1.1.1",
	} {
		got := ""
		for _, a := range alternate(parse(in)) {
			got += " " + a.String()
		}
		if got != " "+want {
			t.Errorf("%s: got%s, want %s", in, got, want)
		}
	}
}

// TestKnownAddressesAge: what name servers said once does for five minutes of their failing and no longer, and servers that fail are
// let rest.
func TestKnownAddressesAge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dns := &fakeDNS{}
		r := &resolver{host: "agent.test", port: "1", timeout: 2 * time.Second, lookup: dns.lookup}
		resolve := func(want string, wantErr error, took time.Duration) {
			t.Helper()
			begin := time.Now()
			ctx, stop := context.WithTimeout(t.Context(), 5*time.Second)
			defer stop()
			addrs, err := r.addresses(ctx)
			if wantErr != nil {
				if !errors.Is(err, wantErr) {
					t.Errorf("got %v, %v; want %v", addrs, err, wantErr)
				}
			} else if err != nil || addrs[0].String() != want {
				t.Errorf("got %v, %v; want %s", addrs, err, want)
			}
			if d := time.Since(begin); d != took {
				t.Errorf("it took %v, want %v", d, took)
			}
		}
		dns.set(nil, false, "10.0.0.1")
		resolve("10.0.0.1", nil, 0)
		dns.set(nil, true)
		resolve("10.0.0.1", nil, 2*time.Second) // the lookup has a deadline
		before := dns.times()
		resolve("10.0.0.1", nil, 0) // and the next does not wait for another
		if got := dns.times(); got != before {
			t.Error("servers that just failed were asked again")
		}
		time.Sleep(3 * time.Second) //nolint:forbidigo // the bubble's clock
		dns.set(nil, false, "10.0.0.2")
		resolve("10.0.0.2", nil, 0) // they are back
		dns.set(errServfail, false)
		time.Sleep(knownAddresses) //nolint:forbidigo // the bubble's clock
		resolve("10.0.0.2", nil, 0)
		time.Sleep(3 * time.Second) //nolint:forbidigo // the bubble's clock
		resolve("", errServfail, 0)
		dns.set(nil, false, "10.0.0.3")
		resolve("10.0.0.3", nil, 0)
		dns.set(errNXDomain, false)
		resolve("", errNXDomain, 0)
		dns.set(errServfail, false)
		resolve("", errServfail, 0) // what is gone is not remembered
		dns.set(nil, false)
		if _, err := r.addresses(t.Context()); err == nil {
			t.Error("no addresses and no error")
		}
		// Somebody who gives up learns nothing about the servers.
		dns.set(nil, false, "10.0.0.4")
		resolve("10.0.0.4", nil, 0)
		dns.set(nil, true)
		ctx, stop := context.WithCancel(t.Context())
		stop()
		if _, err := r.addresses(ctx); !errors.Is(err, context.Canceled) || !r.failed.IsZero() {
			t.Errorf("given up: %v", err)
		}
	})
}

// TestStaleAddressesAreTold: while a backend lives by addresses that were known once, the log says so
// once, the metric counts, and both know when that is over.
func TestStaleAddressesAreTold(t *testing.T) {
	t.Parallel()
	b := stage(t, answerChat)
	dns := &fakeDNS{}
	dns.set(nil, false, "127.0.0.1")
	p := start(t, agentYAML("chat", b.addr), by(dns, portOf(t, b.addr)))
	ask := func() {
		t.Helper()
		if r := p.post("/v1/chat/completions", helloChat, ""); r.status != 200 {
			t.Fatalf("%d %s", r.status, r.body)
		}
	}
	const began, ended = "a backend's name cannot be looked up; its last known addresses are used", "a backend's name is found again"
	told := func(backend, want string, begins, ends int) {
		t.Helper()
		if got := p.metric(`dragoman_dns_stale_total{agent="it",backend="` + backend + `"}`); got != want {
			t.Errorf("counted %q, want %q", got, want)
		}
		if got, end := p.logs.FilterMessage(began).Len(), p.logs.FilterMessage(ended).Len(); got != begins || end != ends {
			t.Errorf("told of %d and %d, want %d and %d", got, end, begins, ends)
		}
	}
	ask()
	told(b.addr, "", 0, 0)
	dns.set(errServfail, false)
	ask()
	told(b.addr, "1", 1, 0)

	r := &resolver{host: "agent.test", port: "1", timeout: longest, lookup: dns.lookup, stale: p.stale("it", "other")}
	look := func() {
		t.Helper()
		r.failed = r.failed.Add(-resolverRest) // long ago
		if _, err := r.addresses(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	dns.set(nil, false, "127.0.0.1")
	look()
	told("other", "", 1, 0)
	dns.set(errServfail, false)
	for range 3 {
		look()
	}
	told("other", "3", 2, 0)
	dns.set(nil, false, "127.0.0.1")
	look()
	look()
	told("other", "3", 2, 1)
	dns.set(errServfail, false)
	look()
	told("other", "4", 3, 1)
	line := p.logs.FilterMessage(began).All()[0].ContextMap()
	if line["agent"] != "it" || line["backend"] != b.addr || line["error"] == nil {
		t.Errorf("logged %v", line)
	}
}

// TestOldConnectionsAreNotKept: a connection to a name serves for less than a minute, however busy it is; one to an address for
// as long as there is work.
func TestOldConnectionsAreNotKept(t *testing.T) {
	t.Parallel()
	b := newBackend(t, "tcp", func(c *backendConn) {
		for c.request() {
			c.say(okHello)
		}
	})
	b.cfg.Lookup = func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}
	b.cfg.Addr = "agent.test:" + portOf(t, b.ln.Addr().String())
	o := b.origin(t)
	fetch(t, o)
	u := o.idle[0]
	if left := time.Until(u.retire); left > time.Minute || left < 30*time.Second {
		t.Errorf("a new connection serves %v, want less than a minute and more than half of one", left)
	}
	fetch(t, o)
	if n := b.conns.Load(); n != 1 {
		t.Fatalf("%d connections, want one", n)
	}
	x := mustRoundTrip(t, o)
	u.retire = time.Now() // while a request is under way
	if _, err := x.readAll(nil, 100); err != nil {
		t.Fatal(err)
	}
	x.finish(true)
	if n := o.idleConns(); n != 0 {
		t.Errorf("%d kept after their time, want none", n)
	}
	fetch(t, o)
	o.idle[0].retire = time.Now() // while it is idle
	fetch(t, o)
	if n := b.conns.Load(); n != 3 {
		t.Errorf("%d connections, want three", n)
	}

	b.cfg.Addr = b.ln.Addr().String()
	o = b.origin(t)
	fetch(t, o)
	if !o.idle[0].retire.IsZero() {
		t.Error("a connection to an address has an age")
	}
}

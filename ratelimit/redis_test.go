package ratelimit

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const redisPatience = 10 * time.Second // for what must not fail for lack of time

// newStore returns a store of a server.
func newStore(t *testing.T, s *fakeRedis, change ...func(*RedisConfig)) *RedisStore {
	t.Helper()
	c := RedisConfig{URL: "redis://" + s.ln.Addr().String(), Timeout: redisPatience}
	for _, f := range change {
		f(&c)
	}
	r, err := NewRedis(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// tenHours is a bucket that holds ten, and does not fill while a test runs.
func tenHours(key string, cost int64) []Bucket {
	return []Bucket{{Key: key, Rate: Rate{Events: 10, Per: 10 * time.Hour, Burst: 10}, Cost: cost}}
}

func mustTake(t *testing.T, r *RedisStore, b []Bucket) bool {
	t.Helper()
	ok, err := r.Take(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

func TestRedisURL(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		url  string
		want redisTarget
	}{
		{"redis://cache", redisTarget{network: "tcp", address: "cache:6379"}},
		{"redis://cache:1234", redisTarget{network: "tcp", address: "cache:1234"}},
		{"redis://cache:1234/", redisTarget{network: "tcp", address: "cache:1234"}},
		{"redis://[::1]:1234/3", redisTarget{network: "tcp", address: "[::1]:1234", db: 3}},
		{"rediss://:p%2Fw%40%23@cache/0", redisTarget{network: "tcp", address: "cache:6379", password: "p/w@#", secure: true}},
		{"redis://me:pw@cache", redisTarget{network: "tcp", address: "cache:6379", user: "me", password: "pw"}},
		{"unix:///run/redis.sock", redisTarget{network: "unix", address: "/run/redis.sock"}},
		{"unix://me:pw@/run/redis.sock?db=7", redisTarget{network: "unix", address: "/run/redis.sock", user: "me", password: "pw", db: 7}},
	} {
		got, err := parseRedisURL(c.url)
		if err != nil || got != c.want {
			t.Errorf("%s: %+v, %v, want %+v", c.url, got, err, c.want)
		}
	}
}

func TestBadRedisURLIsRefusedWithoutRepeatingIt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ url, want string }{
		{"", "must begin with redis://"},
		{"hunter2", "must begin with redis://"},
		{"hunter2:6379", "must begin with redis://"},
		{"http://me:hunter2@cache", "must begin with redis://"},
		{"redis:me:hunter2@cache", "no host"},
		{"redis://", "no host"},
		{"redis://:hunter2@", "no host"},
		{"redis://:hunter2@:6379", "no host"},
		{"redis://hunter2@cache", "a user but no password"},
		{"redis://me:@cache", "a user but no password"},
		{"redis://me:hun#ter2@cache", "not a URL"},
		{"redis://me:1#ter2@cache", "a fragment"},
		{"redis://me:1?ter2@cache", "a query"},
		{"redis://me:h/unter2@cache", "not a URL"},
		{"redis://me:1/unter2@cache", "the database"},
		{"redis://me:hunter%2@cache", "not a URL"},
		{"redis://cache:hunter2", "not a URL"},
		{"redis://cache:66000", "the port"},
		{"redis://cache:0", "the port"},
		{"redis://cache/hunter2", "the database"},
		{"redis://cache/-1", "the database"},
		{"redis://cache/0?db=1", "a query"},
		{"redis://cache/0#", "a fragment"},
		{"redis://cache\x00:6379/hunter2", "not a URL"},
		{"unix://run/redis.sock", "no absolute path"},
		{"unix:hunter2", "no absolute path"},
		{"unix:///", "no absolute path"},
		{"unix:///redis.sock?password=hunter2", "?db=n"},
		{"unix:///redis.sock?db=1&db=2", "?db=n"},
		{"unix:///redis.sock?db=hunter2", "the database"},
	} {
		_, err := NewRedis(RedisConfig{URL: c.url})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, want %q", c.url, err, c.want)
			continue
		}
		for _, part := range []string{"hunter2", "ter2", "unter", "hun", "66000"} {
			if strings.Contains(err.Error(), part) {
				t.Errorf("%q: the error has %q: %v", c.url, part, err)
			}
		}
	}
	for _, c := range []RedisConfig{{URL: "redis://cache", Timeout: -1}, {URL: "redis://cache", Prefix: "a{b"}, {URL: "redis://cache", Prefix: "}"}} {
		if _, err := NewRedis(c); err == nil {
			t.Errorf("%+v: no error", c)
		}
	}
}

func TestRedisDecidesOverAllBucketsInOneRoundTrip(t *testing.T) {
	t.Parallel()
	s := serveRedis(t, nil, nil)
	r := newStore(t, s)
	rate := Rate{Events: 60, Per: time.Minute, Burst: 2}
	b := []Bucket{{Key: "a", Rate: rate, Cost: 1}, {Key: "b", Rate: rate, Cost: 2}}
	if !mustTake(t, r, b) || !b[0].OK || !b[1].OK || b[0].Full != time.Second || b[1].Full != 2*time.Second {
		t.Fatalf("first: %+v", b)
	}
	if mustTake(t, r, b) || !b[0].OK || b[1].OK || b[0].Full != time.Second || b[1].Full != 2*time.Second {
		t.Fatalf("a bucket is empty: %+v", b)
	}
	if err := r.Add(t.Context(), []Bucket{{Key: "a", Rate: rate, Cost: -5}, {Key: "b", Rate: rate, Cost: 1}}); err != nil {
		t.Fatal(err)
	}
	if b[1].Cost = 0; mustTake(t, r, b) {
		t.Fatalf("b is in debt: %+v", b)
	}
	if b[0].Full != 0 || b[1].Full != 3*time.Second {
		t.Errorf("after a refund and a charge: %+v", b)
	}
	if got, want := s.commands(), "EVALSHA EVALSHA EVALSHA EVALSHA"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if s.connections() != 1 {
		t.Errorf("%d connections for calls one after the other", s.connections())
	}
}

func TestCostAboveTheBucketIsAdmittedWhenItIsFull(t *testing.T) {
	t.Parallel()
	s := serveRedis(t, nil, nil)
	r := newStore(t, s)
	b := tenHours("a", 25)
	if !mustTake(t, r, b) || b[0].Full != 25*time.Hour {
		t.Fatalf("%+v", b)
	}
	if b = tenHours("a", 25); mustTake(t, r, b) || b[0].OK || b[0].Full != 25*time.Hour {
		t.Fatalf("in debt: %+v", b)
	}
	s.model.micros += int64(25*time.Hour/time.Microsecond) - 1
	if b = tenHours("a", 25); mustTake(t, r, b) || b[0].Full != time.Microsecond {
		t.Fatalf("almost full: %+v", b)
	}
	s.model.micros++
	if b = tenHours("a", 25); !mustTake(t, r, b) {
		t.Fatalf("full again: %+v", b)
	}
}

func TestScriptThatRedisForgotIsSentOnce(t *testing.T) {
	t.Parallel()
	known := false
	s := serveRedis(t, nil, func(_ *fakeClient, args []string) string {
		if args[0] == "EVALSHA" && !known {
			return "-NOSCRIPT No matching script. Please use EVAL.\r\n"
		}
		known = true
		return "work"
	})
	r := newStore(t, s)
	for range 3 {
		mustTake(t, r, tenHours("a", 1))
	}
	if got, want := s.commands(), "EVALSHA EVAL EVALSHA EVALSHA"; got != want || s.connections() != 1 {
		t.Errorf("%s over %d connections, want %s over one", got, s.connections(), want)
	}
}

// pipeRedis returns a store whose connections are pipes in memory to a server's function, for tests with a clock of their own.
func pipeRedis(t *testing.T, c RedisConfig, serve func(n int, conn net.Conn)) (r *RedisStore, dials *atomic.Int32) {
	t.Helper()
	if c.URL == "" {
		c.URL = "redis://redis"
	}
	r, err := NewRedis(c)
	if err != nil {
		t.Fatal(err)
	}
	dials = new(atomic.Int32)
	r.dial = func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		n := int(dials.Add(1))
		go func() {
			serve(n, far)
			far.Close()
		}()
		return near, nil
	}
	t.Cleanup(func() { r.Close() })
	return r, dials
}

// countedConn is a connection that counts itself.
type countedConn struct {
	net.Conn
	open *atomic.Int32
	once sync.Once
}

func (c *countedConn) Close() error {
	c.once.Do(func() { c.open.Add(-1) })
	return c.Conn.Close()
}

func drainConn(c net.Conn) { io.Copy(io.Discard, c) }

func TestCallEndsWithItsTimeoutWhereverItHangs(t *testing.T) {
	t.Parallel()
	say := func(replies ...string) func(int, net.Conn) {
		return func(_ int, c net.Conn) {
			in := bufio.NewReader(c)
			for _, r := range replies {
				if _, err := readRedisCommand(in); err != nil {
					return
				}
				io.WriteString(c, r)
			}
			drainConn(c)
		}
	}
	for _, c := range []struct {
		name, url string
		serve     func(int, net.Conn)
		dial      func(ctx context.Context, network, address string) (net.Conn, error)
	}{
		{name: "dial", dial: func(ctx context.Context, _, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }},
		{name: "nothing is read", serve: func(_ int, c net.Conn) { c.Write([]byte("+")) }},
		{name: "nothing is said", serve: func(_ int, c net.Conn) { drainConn(c) }},
		{name: "half a reply", serve: say("*4\r\n:1\r\n")},
		{name: "a line without an end", serve: say("*4")},
		{name: "login", url: "redis://:pw@redis", serve: say()},
		{name: "database", url: "redis://:pw@redis/3", serve: say("+OK\r\n")},
		{name: "after the login", url: "redis://:pw@redis/3", serve: say("+OK\r\n", "+OK\r\n")},
		{name: "TLS", url: "rediss://redis", serve: func(_ int, c net.Conn) { drainConn(c) }},
		{name: "script unknown, then nothing", serve: say("-NOSCRIPT\r\n")},
		{name: "slowly, byte after byte", serve: func(_ int, c net.Conn) {
			go drainConn(c)
			for range 1000 {
				<-time.After(9 * time.Millisecond)
				if _, err := c.Write([]byte(":")); err != nil {
					return
				}
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				r, _ := pipeRedis(t, RedisConfig{URL: c.url, Timeout: 70 * time.Millisecond}, c.serve)
				if c.dial != nil {
					r.dial = c.dial
				}
				start := time.Now()
				ok, err := r.Take(t.Context(), tenHours("a", 1))
				if took := time.Since(start); ok || err == nil || took != 70*time.Millisecond {
					t.Errorf("%t, %v after %s, want an error after 70ms", ok, err, took)
				}
				var timeout interface{ Timeout() bool }
				if !errors.As(err, &timeout) || !timeout.Timeout() {
					t.Errorf("%v does not say that it is a timeout", err)
				}
				if r.pool.ActiveCount() != 0 {
					t.Errorf("%d connections are kept", r.pool.ActiveCount())
				}
				<-time.After(time.Second) // for the server to see that
			})
		})
	}
}

func TestDefaultTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, _ := pipeRedis(t, RedisConfig{}, func(_ int, c net.Conn) { drainConn(c) })
		start := time.Now()
		if err := r.Ping(t.Context()); err == nil || time.Since(start) != 50*time.Millisecond {
			t.Errorf("%v after %s, want an error after 50ms", err, time.Since(start))
		}
		start = time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := r.Ping(ctx); err == nil || time.Since(start) != 10*time.Millisecond {
			t.Errorf("%v after %s, want an error after the caller's 10ms", err, time.Since(start))
		}
	})
}

// The replies of calls that timed out arrive while the next ones run, on whatever connection these use.
func TestLateReplyReachesNoOtherCall(t *testing.T) {
	t.Parallel()
	late := make(chan struct{})
	var once sync.Once
	var held atomic.Bool
	s := serveRedis(t, nil, nil)
	s.answer = func(c *fakeClient, args []string) string {
		if held.CompareAndSwap(false, true) {
			<-late // until the second call is here
			return "work"
		}
		if c.number == 1 {
			once.Do(func() { close(late) })
			<-s.conn(0).gone // the client has closed the first connection: its reply went nowhere
		}
		return "work"
	}
	r := newStore(t, s, func(c *RedisConfig) { c.Timeout = 30 * time.Millisecond })
	b := tenHours("slow", 7)
	if ok, err := r.Take(t.Context(), b); ok || err == nil || b[0].Full != 0 || b[0].OK {
		t.Fatalf("%t, %v, %+v: want a timeout that leaves the bucket alone", ok, err, b)
	}
	r.timeout = redisPatience
	b = tenHours("other", 1)
	if !mustTake(t, r, b) || b[0].Full != time.Hour {
		t.Errorf("the second call was told of another bucket: %+v", b)
	}
	if b = tenHours("slow", 1); !mustTake(t, r, b) || b[0].Full != 8*time.Hour {
		t.Errorf("the script whose reply came too late has charged: %+v", b)
	}
	if s.connections() != 2 {
		t.Errorf("%d connections, want the one that timed out, and another", s.connections())
	}
}

// Whatever a proxy between us and Redis mixes up: a reply that is not this call's is an error, not a decision.
func TestReplyOfAnotherCallIsNotTaken(t *testing.T) {
	t.Parallel()
	s := serveRedis(t, nil, nil)
	s.answer = func(c *fakeClient, args []string) string {
		if c.number == 0 {
			args[3+1] = "12345" // the number of the call
			return s.work(args)
		}
		return "work"
	}
	r := newStore(t, s)
	b := tenHours("a", 1)
	if ok, err := r.Take(t.Context(), b); ok || !errors.Is(err, errRedisReply) || b[0].Full != 0 {
		t.Errorf("%t, %v, %+v", ok, err, b)
	}
	if b = tenHours("a", 1); !mustTake(t, r, b) || s.connections() != 2 {
		t.Errorf("%+v over %d connections", b, s.connections())
	}
}

func TestConnectionWithBytesThatNobodyAskedForIsNotUsed(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("idle connections are looked at on Linux")
	}
	var first atomic.Bool
	s := serveRedis(t, nil, nil)
	s.answer = func(_ *fakeClient, args []string) string {
		if first.CompareAndSwap(false, true) {
			return s.work(args) + "+OK\r\n"
		}
		return "work"
	}
	r := newStore(t, s)
	for range 3 {
		// Either the bytes came with the first reply, and the call after it finds that its reply is not its own; or the connection is
		// found to be noisy. In no case is a decision made of them.
		r.Take(t.Context(), tenHours("a", 1))
	}
	b := tenHours("a", 1)
	if !mustTake(t, r, b) || s.connections() != 2 {
		t.Errorf("%+v over %d connections, want 2", b, s.connections())
	}
}

func TestIdleConnectionThatTheServerClosedCostsNoCall(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("idle connections are looked at on Linux")
	}
	s := serveRedis(t, nil, nil)
	r := newStore(t, s)
	for range 3 {
		mustTake(t, r, tenHours("a", 1))
		n := s.connections() - 1
		s.drop()
		<-s.conn(n).gone
	}
	if got, want := s.commands(), "EVALSHA EVALSHA EVALSHA"; got != want || s.connections() != 3 {
		t.Errorf("%s over %d connections", got, s.connections())
	}
}

// warm makes a store open three connections, by three calls that the server answers together.
func warm(t *testing.T, s *fakeRedis, r *RedisStore) {
	t.Helper()
	before := s.answer
	var here, wg sync.WaitGroup
	here.Add(3)
	s.answer = func(*fakeClient, []string) string {
		here.Done()
		here.Wait()
		return "work"
	}
	for range 3 {
		wg.Go(func() { mustTake(t, r, tenHours("warm", 0)) })
	}
	wg.Wait()
	s.answer = before
	if s.connections() != 3 || r.pool.IdleCount() != 3 {
		t.Fatalf("%d connections, %d idle, want 3", s.connections(), r.pool.IdleCount())
	}
}

// One connection that fails is enough to doubt those that lay idle: each would cost a timeout of its own.
func TestIdleConnectionsAreNotTrustedAfterAFailure(t *testing.T) {
	t.Parallel()
	var fail atomic.Bool
	s := serveRedis(t, nil, func(c *fakeClient, _ []string) string {
		if fail.Load() {
			c.Close()
		}
		return "work"
	})
	r := newStore(t, s)
	warm(t, s, r)
	fail.Store(true)
	if _, err := r.Take(t.Context(), tenHours("a", 1)); err == nil {
		t.Fatal("no error from a connection that broke")
	}
	fail.Store(false)
	mustTake(t, r, tenHours("a", 1))
	if s.connections() != 4 || r.pool.ActiveCount() != 1 {
		t.Errorf("%d connections, %d kept, want a fourth alone", s.connections(), r.pool.ActiveCount())
	}
}

func TestWhateverAServerSaysIsNoDecision(t *testing.T) {
	t.Parallel()
	for name, reply := range map[string]string{
		"HTTP":              "HTTP/1.1 400 Bad Request\r\n\r\n",
		"null":              "$-1\r\n",
		"null array":        "*-1\r\n",
		"status":            "+OK\r\n",
		"integer":           ":1\r\n",
		"text":              "$2\r\nhi\r\n",
		"empty array":       "*0\r\n",
		"too short":         "*2\r\n:1\r\n:1\r\n",
		"too long":          "*6\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n",
		"texts":             "*4\r\n$1\r\n1\r\n$1\r\n1\r\n$1\r\n1\r\n$1\r\n1\r\n",
		"nulls":             "*4\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n",
		"errors in it":      "*4\r\n-ERR a\r\n-ERR b\r\n-ERR c\r\n-ERR d\r\n",
		"another number":    "*4\r\n:1\r\n:1\r\n:0\r\n:1\r\n",
		"none":              "*4\r\n:NUMBER\r\n:1\r\n$-1\r\n:1\r\n",
		"a text in it":      "*4\r\n:NUMBER\r\n:1\r\n$1\r\n1\r\n:1\r\n",
		"an array in it":    "*4\r\n:NUMBER\r\n:1\r\n:0\r\n*1\r\n:1\r\n",
		"an error in it":    "*4\r\n:NUMBER\r\n-ERR\r\n:0\r\n:1\r\n",
		"of another size":   "*6\r\n:NUMBER\r\n:1\r\n:0\r\n:1\r\n:0\r\n:1\r\n",
		"one less":          "*3\r\n:NUMBER\r\n:1\r\n:0\r\n",
		"RESP3":             "%1\r\n+a\r\n:1\r\n",
		"huge text":         "$536870912\r\n",
		"text of all bytes": "$9223372036854775807\r\n",
		"huge array":        "*1073741824\r\n",
		"array of all":      "*9223372036854775807\r\n",
		"overflow":          "*99999999999999999999999999\r\n",
		"nested":            strings.Repeat("*99\r\n", 100000),
		"nested by one":     strings.Repeat("*1\r\n", 100000),
		"endless line":      "+" + strings.Repeat("a", 1<<20),
		"endless error":     "-" + strings.Repeat("a", 1<<20),
		"no line end":       "\n\n\n\n",
		"zeros":             strings.Repeat("\x00", 100) + "\r\n",
		"nothing":           "",
		"TLS":               "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serveRedis(t, nil, nil)
			s.answer = func(c *fakeClient, args []string) string {
				if c.number > 0 {
					return "work"
				}
				go io.Copy(io.Discard, c) // it may leave in the middle
				io.WriteString(c, strings.ReplaceAll(reply, "NUMBER", args[4]))
				c.Close()
				return ""
			}
			r := newStore(t, s)
			b := tenHours("a", 1)
			ok, err := r.Take(t.Context(), b)
			if ok || err == nil || b[0].OK || b[0].Full != 0 {
				t.Errorf("%t, %v, %+v: want an error and an untouched bucket", ok, err, b)
			}
			if text := fmt.Sprint(err); len(text) > 300 || strings.ContainsAny(text, "\x00\r\n") {
				t.Errorf("the error is %.500q", text)
			}
			if !mustTake(t, r, b) || s.connections() != 2 {
				t.Errorf("the next call: %+v over %d connections", b, s.connections())
			}
		})
	}
}

func TestGarbageTakesNoMemory(t *testing.T) { //nolint:paralleltest // it measures
	reply := strings.Repeat("*99\r\n", 100000)
	s := serveRedis(t, nil, func(c *fakeClient, _ []string) string { return reply })
	r := newStore(t, s)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := r.Take(t.Context(), tenHours("a", 1)); err == nil {
		t.Error("no error")
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 16<<20 {
		t.Errorf("%d bytes for a reply", grown)
	}
}

func TestServerThatRefusesIsAskedOnceAndFoundAnew(t *testing.T) {
	t.Parallel()
	for _, refusal := range []string{
		"READONLY You can't write against a read only replica.", "LOADING Redis is loading the dataset in memory",
		"OOM command not allowed when used memory > 'maxmemory'.", "NOAUTH Authentication required.", "MASTERDOWN Link with MASTER is down",
		"NOPERM this user has no permissions", "CLUSTERDOWN The cluster is down", "BUSY Redis is busy running a script", "ERR what",
		"TRYAGAIN Multiple keys request during rehashing of slot", "MOVED nonsense", "MOVED 1 nonsense", "MOVED 1 ?:1", "",
	} {
		t.Run(strings.Fields(refusal + " none")[0], func(t *testing.T) {
			t.Parallel()
			s := serveRedis(t, nil, func(c *fakeClient, _ []string) string {
				if c.number == 0 {
					return "-" + refusal + "\r\n"
				}
				return "work"
			})
			r := newStore(t, s)
			if ok, err := r.Take(t.Context(), tenHours("a", 1)); ok || err == nil || !strings.Contains(err.Error(), refusal) {
				t.Errorf("%t, %v", ok, err)
			}
			if got, want := s.commands(), "EVALSHA"; got != want {
				t.Errorf("%s, want %s", got, want)
			}
			mustTake(t, r, tenHours("a", 1))
			if s.connections() != 2 {
				t.Errorf("%d connections, want a second one", s.connections())
			}
		})
	}
}

func TestCallWhoseReplyIsLostIsNotMadeAgain(t *testing.T) {
	t.Parallel()
	s := serveRedis(t, nil, func(c *fakeClient, _ []string) string {
		if c.number == 0 {
			c.Close()
		}
		return "work"
	})
	r := newStore(t, s)
	if _, err := r.Take(t.Context(), tenHours("a", 1)); err == nil {
		t.Fatal("no error though the connection broke")
	}
	if got, want := s.commands(), "EVALSHA"; got != want || s.connections() != 1 {
		t.Errorf("%s over %d connections, want %s once", got, s.connections(), want)
	}
	// It may have charged, as it did here, and once.
	b := tenHours("a", 1)
	if !mustTake(t, r, b) || b[0].Full != 2*time.Hour {
		t.Errorf("%+v, want what both took", b)
	}
}

func TestRedisLogin(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ url, want string }{
		{"redis://HOST", "EVALSHA"},
		{"redis://:secret@HOST", "AUTH secret, EVALSHA"},
		{"redis://me:se%20cret@HOST/4", "AUTH me se cret, SELECT 4, EVALSHA"},
		{"redis://HOST/4", "SELECT 4, EVALSHA"},
	} {
		s := serveRedis(t, nil, nil)
		r := newStore(t, s, func(to *RedisConfig) { to.URL = strings.ReplaceAll(c.url, "HOST", s.ln.Addr().String()) })
		mustTake(t, r, tenHours("a", 1))
		mustTake(t, r, tenHours("a", 1))
		var got []string
		for _, args := range s.seen[:len(s.seen)-1] {
			if args[0] == "EVALSHA" {
				args = args[:1]
			}
			got = append(got, strings.Join(args, " "))
		}
		if text := strings.Join(got, ", "); text != c.want {
			t.Errorf("%s: %s, want %s", c.url, text, c.want)
		}
	}
}

// Servers that know no AUTH repeat what they were given.
func TestRefusedLoginShowsNoPassword(t *testing.T) {
	t.Parallel()
	for _, say := range []string{
		"-WRONGPASS invalid username-password pair or user is disabled: %s\r\n",
		"-ERR unknown command `AUTH`, with args beginning with: `%s`, \r\n",
		"-%s\r\n",
		"+%[1]s\r\n-%[1]s %[1]s\r\n",
	} {
		s := serveRedis(t, nil, func(_ *fakeClient, args []string) string {
			return fmt.Sprintf(say, args[len(args)-1])
		})
		r := newStore(t, s, func(c *RedisConfig) { c.URL = strings.Replace(c.URL, "//", "//me:HUNTERTWO@", 1) + "/3" })
		_, err := r.Take(t.Context(), tenHours("a", 1))
		if err == nil || strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), "HUNTERTWO") && !strings.HasPrefix(say, "+") {
			t.Errorf("%q: %v", say, err)
		}
		if !strings.HasPrefix(say, "+") && !strings.Contains(err.Error(), "the login was refused") {
			t.Errorf("%q: %v", say, err)
		}
	}
}

func TestClusterIsFollowedToTheNodeThatHasTheSlot(t *testing.T) {
	t.Parallel()
	owner := serveRedis(t, nil, nil)
	seed := serveRedis(t, nil, nil)
	seed.answer = func(_ *fakeClient, args []string) string { return "-MOVED 1 " + owner.ln.Addr().String() + "\r\n" }
	r := newStore(t, seed)
	for range 3 {
		mustTake(t, r, tenHours("a", 1))
	}
	if seed.commands() != "EVALSHA" || owner.commands() != "EVALSHA EVALSHA EVALSHA" || owner.connections() != 1 {
		t.Fatalf("seed: %s; owner: %s", seed.commands(), owner.commands())
	}
	// The slot goes to the seed, and the owner away.
	seed.answer = nil
	owner.stop()
	mustTake(t, r, tenHours("a", 1))
	if seed.commands() != "EVALSHA EVALSHA" {
		t.Errorf("seed: %s", seed.commands())
	}
}

func TestClusterThatMovesTheSlotIsAskedWhereItSays(t *testing.T) {
	t.Parallel()
	next := serveRedis(t, nil, nil)
	next.answer = func(_ *fakeClient, args []string) string {
		if args[0] == "EVALSHA" {
			return "-NOSCRIPT\r\n"
		}
		return "work"
	}
	seed := serveRedis(t, nil, nil)
	seed.answer = func(_ *fakeClient, args []string) string { return "-ASK 1 " + next.ln.Addr().String() + "\r\n" }
	r := newStore(t, seed)
	mustTake(t, r, tenHours("a", 1))
	mustTake(t, r, tenHours("a", 1))
	if got, want := next.commands(), "ASKING EVALSHA ASKING EVAL ASKING EVALSHA ASKING EVAL"; got != want || seed.commands() != "EVALSHA EVALSHA" {
		t.Errorf("seed: %s; next: %s, want %s", seed.commands(), got, want)
	}
	<-next.conn(0).gone
}

func TestIdleConnectionsOfTheNodeThatHadTheSlotAreNotAsked(t *testing.T) {
	t.Parallel()
	owner := serveRedis(t, nil, nil)
	seed := serveRedis(t, nil, func(*fakeClient, []string) string { return "-MOVED 1 " + owner.ln.Addr().String() + "\r\n" })
	r := newStore(t, seed)
	warm(t, seed, r)
	for range 4 {
		mustTake(t, r, tenHours("a", 1))
	}
	if got, want := seed.commands(), "EVALSHA EVALSHA EVALSHA EVALSHA"; got != want || owner.connections() != 1 {
		t.Errorf("seed: %s, want %s; %d connections to the owner", got, want, owner.connections())
	}
	for n := range 3 {
		<-seed.conn(n).gone
	}
}

func TestNodeThatDoesNotAnswerIsLeftForTheURL(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newRedisModel()
		r, dials := pipeRedis(t, RedisConfig{}, func(n int, c net.Conn) {
			in := bufio.NewReader(c)
			for {
				args, err := readRedisCommand(in)
				if err != nil {
					return
				}
				if n == 1 {
					io.WriteString(c, "-MOVED 1 node:1\r\n")
				} else {
					io.WriteString(c, m.eval(args[3:4], args[4:]))
				}
			}
		})
		dial := r.dial
		r.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			if address == "node:1" {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return dial(ctx, network, address)
		}
		if _, err := r.Take(t.Context(), tenHours("a", 1)); err == nil {
			t.Error("no error though the node does not answer")
		}
		if !mustTake(t, r, tenHours("a", 1)) || dials.Load() != 2 {
			t.Errorf("%d dials", dials.Load())
		}
		r.Close()
	})
}

func TestNodesThatPointAtEachOtherAreNotFollowedForEver(t *testing.T) {
	t.Parallel()
	s := serveRedis(t, nil, nil)
	_, port, _ := net.SplitHostPort(s.ln.Addr().String())
	s.answer = func(*fakeClient, []string) string { return "-MOVED 1 :" + port + "\r\n" } // no host: the same
	r := newStore(t, s)
	if ok, err := r.Take(t.Context(), tenHours("a", 1)); ok || err == nil || !strings.Contains(err.Error(), "MOVED") {
		t.Errorf("%t, %v", ok, err)
	}
	if got, want := s.commands(), "EVALSHA EVALSHA EVALSHA"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestPoolIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var open, most atomic.Int32
		r, _ := pipeRedis(t, RedisConfig{}, func(_ int, c net.Conn) { drainConn(c) })
		dial := r.dial
		r.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			most.Store(max(most.Load(), open.Add(1)))
			c, err := dial(ctx, network, address)
			return &countedConn{Conn: c, open: &open}, err
		}
		var wg sync.WaitGroup
		start := time.Now()
		for range 1000 {
			wg.Go(func() {
				if _, err := r.Take(t.Context(), tenHours("a", 1)); err == nil {
					t.Error("no error")
				}
			})
		}
		wg.Wait()
		synctest.Wait()
		if took := time.Since(start); took != 50*time.Millisecond || most.Load() != redisConns || int(open.Load()) != r.pool.ActiveCount() {
			t.Errorf("a thousand calls of a stalled server took %s, with %d connections, %d open, %d in the pool", took, most.Load(), open.Load(), r.pool.ActiveCount())
		}
	})
}

func TestCallerThatLeftChargesNothing(t *testing.T) {
	t.Parallel()
	s := serveRedis(t, nil, nil)
	r := newStore(t, s)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if ok, err := r.Take(ctx, tenHours("a", 1)); ok || !errors.Is(err, context.Canceled) || s.connections() != 0 {
		t.Errorf("%t, %v, %d connections", ok, err, s.connections())
	}
}

func TestClosedStoreRefusesAndLeavesNothing(t *testing.T) {
	t.Parallel()
	s := serveRedis(t, nil, nil)
	r := newStore(t, s)
	mustTake(t, r, tenHours("a", 1))
	r.Close()
	<-s.conn(0).gone
	if ok, err := r.Take(t.Context(), tenHours("a", 1)); ok || err == nil || s.connections() != 1 {
		t.Errorf("%t, %v, %d connections", ok, err, s.connections())
	}
	if err := r.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
}

func TestPingFailsWhereADecisionWould(t *testing.T) {
	t.Parallel()
	s := serveRedis(t, nil, func(c *fakeClient, args []string) string {
		switch {
		case args[0] == "PING":
			return "+PONG\r\n"
		case c.number == 0:
			return "-READONLY You can't write against a read only replica.\r\n"
		}
		return "work"
	})
	r := newStore(t, s)
	if err := r.Ping(t.Context()); err == nil {
		t.Error("a replica is pinged without an error")
	}
	if err := r.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestRedisOverASocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "redis.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := serveRedis(t, ln, nil)
	r := newStore(t, s, func(c *RedisConfig) { c.URL = "unix://" + path + "?db=2" })
	mustTake(t, r, tenHours("a", 1))
	if got, want := s.commands(), "SELECT EVALSHA"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestRedisOverTLS(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	known := x509.NewCertPool()
	if cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	known.AddCert(cert)
	listen := func(most uint16) net.Listener {
		ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
			Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MaxVersion: most})
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	for _, c := range []struct {
		name string
		most uint16
		tls  *tls.Config
		good bool
	}{
		{"1.3", tls.VersionTLS13, &tls.Config{RootCAs: known}, true},
		{"1.2", tls.VersionTLS12, &tls.Config{RootCAs: known}, true},
		{"1.1", tls.VersionTLS11, &tls.Config{RootCAs: known}, false},
		{"unknown authority", tls.VersionTLS13, nil, false},
		{"another name", tls.VersionTLS13, &tls.Config{RootCAs: known, ServerName: "elsewhere"}, false},
	} {
		s := serveRedis(t, listen(c.most), nil)
		r := newStore(t, s, func(to *RedisConfig) {
			to.URL, to.TLS = "rediss://:pw@"+s.ln.Addr().String(), c.tls
		})
		for range 3 {
			ok, err := r.Take(t.Context(), tenHours("a", 1))
			if ok != c.good || (err == nil) != c.good {
				t.Errorf("%s: %t, %v", c.name, ok, err)
			}
		}
		if got := s.commands(); !c.good && got != "" {
			t.Errorf("%s: sent %s to a server that was not verified", c.name, got)
		} else if c.good && s.connections() != 1 {
			t.Errorf("%s: %d connections", c.name, s.connections())
		}
	}
}

// redisSlot is the hash slot of a key, as the specification of Redis Cluster has it.
func redisSlot(key string) uint16 {
	if open := strings.IndexByte(key, '{'); open >= 0 {
		if end := strings.IndexByte(key[open+1:], '}'); end > 0 {
			key = key[open+1 : open+1+end]
		}
	}
	var crc uint16
	for _, c := range []byte(key) {
		crc ^= uint16(c) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc % 16384
}

func TestAllKeysOfAPrefixAreInOneSlot(t *testing.T) {
	t.Parallel()
	if got, want := redisSlot("123456789"), uint16(0x31C3); got != want {
		t.Fatalf("slot: %#x, want %#x", got, want)
	}
	names := []string{"", "a", "{", "}", "{}", "{x}", "}{", "key:{other}:requests", strings.Repeat("a", 128), strings.Repeat("a", 129),
		strings.Repeat("a", 130), strings.Repeat("{b}", 1000), "issuer|subject", "\x00\r\n*1\r\n", "é"}
	for _, prefix := range []string{"", "prod", "a b"} {
		s := serveRedis(t, nil, nil)
		r := newStore(t, s, func(c *RedisConfig) { c.Prefix = prefix })
		keys := map[string]bool{}
		var b []Bucket
		for _, name := range names {
			b = append(b, tenHours(name, 1)...)
		}
		mustTake(t, r, b)
		for name := range s.model.values {
			keys[name] = true
			want := redisSlot("{dragoman}")
			if prefix != "" {
				want = redisSlot(prefix)
			}
			if redisSlot(name) != want {
				t.Errorf("%q is in slot %d, want %d", name, redisSlot(name), want)
			}
			if len(name) > 200 {
				t.Errorf("a key of %d bytes", len(name))
			}
		}
		if len(keys) != len(names) {
			t.Errorf("%d keys of %d names", len(keys), len(names))
		}
	}
}

func TestCallHasABound(t *testing.T) {
	t.Parallel()
	s := serveRedis(t, nil, nil)
	r := newStore(t, s)
	if ok, err := r.Take(t.Context(), nil); !ok || err != nil || s.connections() != 0 {
		t.Errorf("no buckets: %t, %v", ok, err)
	}
	if _, err := r.Take(t.Context(), make([]Bucket, redisBuckets+1)); err == nil || s.connections() != 0 {
		t.Errorf("too many: %v", err)
	}
	var b []Bucket
	for i := range redisBuckets {
		b = append(b, tenHours(fmt.Sprint(i), 1)...)
	}
	if !mustTake(t, r, b) {
		t.Error("as many as there may be are refused")
	}
}

func TestValuesExpireWhenTheBucketIsFull(t *testing.T) {
	t.Parallel()
	s := serveRedis(t, nil, nil)
	r := newStore(t, s)
	rate := Rate{Events: 1000, Per: time.Second, Burst: 1000}
	if err := r.Add(t.Context(), []Bucket{{Key: "a", Rate: rate, Cost: 1}, {Key: "b", Rate: rate, Cost: 5000}, {Key: "c", Rate: rate, Cost: -1}}); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(s.model.expires), "map[{dragoman}:a:11 {dragoman}:b:5010]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if err := r.Add(t.Context(), []Bucket{{Key: "a", Rate: rate, Cost: -1}}); err != nil {
		t.Fatal(err)
	}
	if _, there := s.model.values["{dragoman}:a"]; there {
		t.Error("a full bucket has a value")
	}
}

func TestCostIsRoundedUpAndBounded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rate    Rate
		n, want int64
	}{
		{Rate{Events: 60, Per: time.Minute}, 1, 1e9},
		{Rate{Events: 7, Per: time.Second}, 1, 142857143},
		{Rate{Events: 7, Per: time.Second}, 7, 1e9},
		{Rate{Events: 7, Per: time.Second}, -1, -142857143},
		{Rate{Events: 1e9, Per: time.Minute}, 1, 60},
		{Rate{Events: 7e9, Per: time.Second}, 1, 1},
		{Rate{Events: 1, Per: time.Hour}, 1 << 62, redisMost},
		{Rate{Events: 1, Per: time.Hour}, -1 << 63, -redisMost},
		{Rate{}, 5, 0},
	} {
		if got := redisCost(c.rate, c.n); got != c.want {
			t.Errorf("%d of %+v cost %d, want %d", c.n, c.rate, got, c.want)
		}
	}
}

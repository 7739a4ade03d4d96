//go:build redis

package ratelimit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
)

// The tests of this file, TestReal…, need a Redis: REDIS_SERVER is the path of its program. interop/run redis finds one.

// realRedis is a server process of a test's own.
type realRedis struct {
	url  string // of a unix socket
	tcp  string // host:port
	args []string
	cmd  *exec.Cmd
	log  bytes.Buffer
}

// startRedis starts a server with further arguments, and waits until it answers.
func startRedis(tb testing.TB, args ...string) *realRedis {
	tb.Helper()
	program := os.Getenv("REDIS_SERVER")
	if program == "" {
		tb.Fatal("REDIS_SERVER must be the path of redis-server or valkey-server; interop/run redis sets it")
	}
	address := redisPort(tb)
	dir, err := os.MkdirTemp("", "redis") // shorter than a test's own: the path of a socket has a limit
	if err != nil {
		tb.Fatal(err)
	}
	r := &realRedis{url: "unix://" + filepath.Join(dir, "s"), tcp: address.String()}
	r.args = append([]string{program, "--port", strconv.Itoa(address.Port), "--bind", "127.0.0.1", "--unixsocket", filepath.Join(dir, "s"), "--save", "",
		"--appendonly", "no", "--dir", dir}, args...)
	r.start(tb)
	tb.Cleanup(func() {
		r.kill()
		os.RemoveAll(dir)
		if tb.Failed() {
			tb.Logf("the server's log:\n%s", &r.log)
		}
	})
	return r
}

// redisPort returns a free one, of which the one 10,000 above, where the nodes of a cluster talk, is free, too.
func redisPort(tb testing.TB) *net.TCPAddr {
	tb.Helper()
	for range 100 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		ln.Close()
		a := ln.Addr().(*net.TCPAddr)
		if a.Port > 55535 {
			continue
		}
		if ln, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", a.Port+10000)); err == nil {
			ln.Close()
			return a
		}
	}
	tb.Fatal("there is no free port")
	return nil
}

func (r *realRedis) start(tb testing.TB) {
	tb.Helper()
	r.cmd = exec.Command(r.args[0], r.args[1:]...)
	r.cmd.Stdout, r.cmd.Stderr = &r.log, &r.log
	if err := r.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	for range 1000 {
		if c, err := redis.Dial("tcp", r.tcp); err == nil {
			_, err = c.Do("PING")
			c.Close()
			var refused redis.Error
			if err == nil || errors.As(err, &refused) && !strings.HasPrefix(err.Error(), "LOADING") {
				return
			}
		}
		<-time.After(10 * time.Millisecond)
	}
	r.kill()
	tb.Fatalf("the server did not come up:\n%s", &r.log)
}

func (r *realRedis) kill() {
	r.cmd.Process.Kill()
	r.cmd.Wait()
}

func (r *realRedis) signal(tb testing.TB, s syscall.Signal) {
	tb.Helper()
	if err := r.cmd.Process.Signal(s); err != nil {
		tb.Fatal(err)
	}
}

// do sends a command of the test's own.
func (r *realRedis) do(tb testing.TB, command string, args ...any) any {
	tb.Helper()
	c, err := redis.Dial("tcp", r.tcp)
	if err != nil {
		tb.Fatal(err)
	}
	defer c.Close()
	reply, err := c.Do(command, args...)
	if err != nil {
		tb.Fatalf("%s: %v", command, err)
	}
	return reply
}

// store returns a store of the server.
func (r *realRedis) store(tb testing.TB, change ...func(*RedisConfig)) *RedisStore {
	tb.Helper()
	c := RedisConfig{URL: r.url, Timeout: redisPatience}
	for _, f := range change {
		f(&c)
	}
	s, err := NewRedis(c)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.Close() })
	return s
}

func TestRealVersion(t *testing.T) {
	r := startRedis(t)
	info, err := redis.String(r.do(t, "INFO", "server"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(info) {
		if strings.Contains(line, "_version:") || strings.HasPrefix(line, "server_name:") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

func TestRealNeverOneTooMany(t *testing.T) {
	r := startRedis(t)
	one, two := r.store(t), r.store(t, func(c *RedisConfig) { c.URL = "redis://" + r.tcp })
	const room, each, workers = 1000, 100, 16
	rate := Rate{Events: room, Per: 1000 * time.Hour, Burst: room}
	var passed atomic.Int64
	var wg sync.WaitGroup
	for i := range 2 * workers {
		s := []*RedisStore{one, two}[i%2]
		wg.Go(func() {
			for range each {
				b := []Bucket{{Key: "shared", Rate: rate, Cost: 1}, {Key: fmt.Sprint("own", i), Rate: rate, Cost: 1}}
				ok, err := s.Take(t.Context(), b)
				if err != nil {
					t.Error(err)
				}
				if ok {
					passed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if passed.Load() != room {
		t.Errorf("%d of %d passed, want %d", passed.Load(), 2*workers*each, room)
	}
	// What was refused for the shared bucket was not taken from a worker's own.
	var sum time.Duration
	for i := range 2 * workers {
		b := []Bucket{{Key: fmt.Sprint("own", i), Rate: rate}}
		if _, err := one.Take(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		sum += b[0].Full
	}
	if want := room * time.Hour; sum > want || sum < want-time.Hour {
		t.Errorf("the workers' own buckets were charged %s, want %s", sum, want)
	}
}

// The script itself, with a clock that is set, over a long random life.
func TestRealScriptIsExact(t *testing.T) {
	r := startRedis(t)
	c, err := redis.Dial("tcp", r.tcp)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const clock, expiry = "redis.call('TIME')", ",\n        'PX', string.format('%.0f', math.ceil(rest / 1000000) + 10))"
	if strings.Count(redisScript, clock) != 1 || strings.Count(redisScript, expiry) != 1 {
		t.Fatal("the script has not one clock and one expiry")
	}
	timeless := strings.Replace(redisScript, expiry, ")", 1)
	m := newRedisModel()
	n := 0
	redisLife(t, 20000, func(micros int64, keys, argv []string) string {
		if keys == nil {
			clear(m.values)
			r.do(t, "FLUSHALL")
			return ""
		}
		last := len(argv) // Lua counts from one
		script := strings.Replace(timeless, clock, fmt.Sprintf("{ARGV[%d], ARGV[%d]}", last+1, last+2), 1)
		args := []any{script, len(keys)}
		for _, k := range keys {
			args = append(args, k)
		}
		for _, a := range argv {
			args = append(args, a)
		}
		args = append(args, strconv.FormatInt(micros/1000000, 10), fmt.Sprintf("%06d", micros%1000000))
		list, err := redis.Int64s(c.Do("EVAL", args...))
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		fmt.Fprintf(&b, "*%d\r\n", len(list))
		for _, v := range list {
			fmt.Fprintf(&b, ":%d\r\n", v)
		}
		m.micros = micros
		if got, want := b.String(), m.eval(keys, argv); got != want {
			t.Fatalf("step %d: the script says %q, the model %q", n, got, want)
		}
		for _, k := range keys {
			got, err := redis.String(c.Do("GET", k))
			if err != nil && !errors.Is(err, redis.ErrNil) {
				t.Fatal(err)
			}
			if got != m.values[k] {
				t.Fatalf("step %d: %s is %s, in the model %s", n, k, got, m.values[k])
			}
		}
		n++
		return b.String()
	})
}

// What others wrote into a key is no reason to fail, or to refuse for ever.
func TestRealGarbageInAKeyIsAFullBucket(t *testing.T) {
	r := startRedis(t)
	s := r.store(t)
	for _, set := range [][]any{
		{"SET", "{dragoman}:a", "hello"}, {"SET", "{dragoman}:a", ""}, {"SET", "{dragoman}:a", "nan"}, {"SET", "{dragoman}:a", "inf"},
		{"SET", "{dragoman}:a", "-5"}, {"SET", "{dragoman}:a", "1e30"}, {"SET", "{dragoman}:a", "0x7fffffffffffffff"},
		{"SET", "{dragoman}:a", strings.Repeat("9", 30)}, {"SET", "{dragoman}:a", "5"}, {"LPUSH", "{dragoman}:a", "x"},
	} {
		r.do(t, "DEL", "{dragoman}:a")
		r.do(t, set[0].(string), set[1:]...)
		b := tenHours("a", 1)
		if !mustTake(t, s, b) || b[0].Full != time.Hour {
			t.Errorf("%v: %+v", set, b)
		}
	}
}

// A clock that leapt back, or a value that nobody wrote, is a debt like any other, and none is longer than what doubles hold.
func TestRealDebtHasABound(t *testing.T) {
	r := startRedis(t)
	s := r.store(t)
	r.do(t, "SET", "{dragoman}:a", strings.Repeat("9", 19))
	b := tenHours("a", 1)
	if mustTake(t, s, b) || b[0].Full != redisMost {
		t.Errorf("%+v, want a debt of %s", b, time.Duration(redisMost))
	}
}

func TestRealValuesGoWhenTheirBucketsAreFull(t *testing.T) {
	r := startRedis(t)
	s := r.store(t)
	short := Rate{Events: 10, Per: time.Second, Burst: 10}
	for i := range 100 {
		mustTake(t, s, []Bucket{{Key: fmt.Sprint(i), Rate: short, Cost: 5}})
	}
	mustTake(t, s, tenHours("long", 1))
	if n := r.do(t, "DBSIZE").(int64); n < 2 || n > 101 {
		t.Errorf("%d keys", n)
	}
	left := r.do(t, "PTTL", "{dragoman}:long").(int64)
	if most := (time.Hour + 10*time.Millisecond).Milliseconds(); left > most || left < most-60000 {
		t.Errorf("the long one goes in %d ms, want an hour", left)
	}
	for range 1000 {
		if r.do(t, "DBSIZE").(int64) == 1 {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Errorf("%d keys are left, want the long one alone", r.do(t, "DBSIZE"))
}

func TestRealTimeRefills(t *testing.T) {
	r := startRedis(t)
	s := r.store(t)
	rate := Rate{Events: 100, Per: time.Second, Burst: 1}
	start := time.Now()
	passed := 0
	for passed < 20 {
		if mustTake(t, s, []Bucket{{Key: "a", Rate: rate, Cost: 1}}) {
			passed++
		}
	}
	if took := time.Since(start); took < 190*time.Millisecond {
		t.Errorf("20 of 100/s burst 1 passed in %s, want 190ms at least", took)
	}
}

func TestRealScriptFlush(t *testing.T) {
	r := startRedis(t)
	s := r.store(t)
	for i := range 10 {
		r.do(t, "SCRIPT", "FLUSH")
		b := tenHours("a", 1)
		if !mustTake(t, s, b) || b[0].Full <= time.Duration(i)*time.Hour {
			t.Fatalf("take %d: %+v", i, b)
		}
	}
	if n := s.pool.ActiveCount(); n != 1 {
		t.Errorf("%d connections, want one", n)
	}
}

func TestRealWrongPassword(t *testing.T) {
	r := startRedis(t, "--requirepass", "right")
	for _, c := range []struct{ user, want string }{
		{"", "NOAUTH"}, {":wrong@", "the login was refused"}, {"nobody:right@", "the login was refused"}, {":right@", ""},
	} {
		s := r.store(t, func(to *RedisConfig) { to.URL = strings.Replace(r.url, "//", "//"+c.user, 1) })
		err := s.Ping(t.Context())
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.user, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "wrong") {
			t.Errorf("%s: %v, want %s", c.user, err, c.want)
		}
	}
}

// The documentation says which commands a user must be allowed.
func TestRealUserWithTheLeastRights(t *testing.T) {
	r := startRedis(t)
	c, err := redis.Dial("tcp", r.tcp)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Do("ACL", "SETUSER", "dragoman", "on", ">pw", "~{dragoman}:*", "+eval", "+evalsha", "+time", "+mget", "+set", "+del", "+select")
	if err != nil {
		if strings.Contains(err.Error(), "unknown command") {
			t.Log("this server has no users")
			return
		}
		t.Fatal(err)
	}
	s := r.store(t, func(to *RedisConfig) { to.URL = strings.Replace(r.url, "//", "//dragoman:pw@", 1) + "?db=1" })
	b := tenHours("a", 1)
	mustTake(t, s, b)
	if err := s.Add(t.Context(), tenHours("a", -1)); err != nil {
		t.Fatal(err)
	}
	other := r.store(t, func(to *RedisConfig) {
		to.URL, to.Prefix = strings.Replace(r.url, "//", "//dragoman:pw@", 1), "other"
	})
	if err := other.Ping(t.Context()); err == nil {
		t.Error("keys of another prefix are open to the user")
	}
}

func TestRealReplica(t *testing.T) {
	r := startRedis(t)
	host, port, _ := net.SplitHostPort(r.tcp)
	replica := startRedis(t)
	replica.do(t, "REPLICAOF", host, port)
	s := replica.store(t)
	if ok, err := s.Take(t.Context(), tenHours("a", 1)); ok || err == nil || !strings.Contains(err.Error(), "READONLY") && !strings.Contains(err.Error(), "MASTERDOWN") {
		t.Errorf("%t, %v", ok, err)
	}
	if err := s.Ping(t.Context()); err == nil {
		t.Error("a replica is pinged without an error")
	}
	replica.do(t, "REPLICAOF", "NO", "ONE")
	b := tenHours("a", 1)
	if !mustTake(t, s, b) {
		t.Errorf("promoted: %+v", b)
	}
}

func TestRealOutOfMemory(t *testing.T) {
	r := startRedis(t)
	s := r.store(t)
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.do(t, "CONFIG", "SET", "maxmemory", "1")
	if ok, err := s.Take(t.Context(), tenHours("a", 1)); ok || err == nil || !strings.Contains(err.Error(), "OOM") {
		t.Errorf("%t, %v", ok, err)
	}
	if err := s.Ping(t.Context()); err == nil {
		t.Error("a full server is pinged without an error")
	}
	r.do(t, "CONFIG", "SET", "maxmemory", "0")
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
}

// redisCluster makes one of several servers, in which the last has all slots.
func redisCluster(t *testing.T, n int) []*realRedis {
	t.Helper()
	var nodes []*realRedis
	for i := range n {
		node := startRedis(t, "--cluster-enabled", "yes")
		nodes = append(nodes, node)
		if i == 0 {
			continue
		}
		host, port, _ := net.SplitHostPort(nodes[0].tcp)
		node.do(t, "CLUSTER", "MEET", host, port)
	}
	var all []any
	for i := range 16384 {
		all = append(all, i)
	}
	nodes[n-1].do(t, "CLUSTER", append([]any{"ADDSLOTS"}, all...)...)
	for _, node := range nodes {
		ok := false
		for range 1000 {
			info, err := redis.String(node.do(t, "CLUSTER", "INFO"), nil)
			if err != nil {
				t.Fatal(err)
			}
			if ok = strings.Contains(info, "cluster_state:ok") && strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d", n)); ok {
				break
			}
			<-time.After(20 * time.Millisecond)
		}
		if !ok {
			t.Fatal("the cluster does not come up")
		}
	}
	return nodes
}

func TestRealCluster(t *testing.T) {
	nodes := redisCluster(t, 3)
	s := nodes[0].store(t, func(c *RedisConfig) { c.URL = "redis://" + nodes[0].tcp })
	rate := Rate{Events: 10, Per: 10 * time.Hour, Burst: 10}
	for range 5 {
		b := []Bucket{{Key: "key:a:requests", Rate: rate, Cost: 1}, {Key: "key:a:tokens", Rate: rate, Cost: 2}, {Key: "agent:{b}:requests", Rate: rate, Cost: 1},
			{Key: "global::tokens", Rate: rate, Cost: 1}, {Key: strings.Repeat("long", 100), Rate: rate, Cost: 1}}
		if !mustTake(t, s, b) {
			t.Fatalf("%+v", b)
		}
	}
	if n := nodes[2].do(t, "DBSIZE").(int64); n != 5 {
		t.Errorf("%d keys in the node that has the slot, want 5", n)
	}
	if *s.node.Load() != nodes[2].tcp {
		t.Errorf("calls go to %s, want %s", *s.node.Load(), nodes[2].tcp)
	}
	// The slot moves: first to be asked for, then for good.
	id := func(r *realRedis) string { v, _ := redis.String(r.do(t, "CLUSTER", "MYID"), nil); return v }
	slot := redisSlot("{dragoman}")
	nodes[1].do(t, "CLUSTER", "SETSLOT", slot, "IMPORTING", id(nodes[2]))
	nodes[2].do(t, "CLUSTER", "SETSLOT", slot, "MIGRATING", id(nodes[1]))
	b := []Bucket{{Key: "new", Rate: rate, Cost: 1}}
	if !mustTake(t, s, b) || nodes[1].do(t, "DBSIZE").(int64) != 1 {
		t.Errorf("in migration: %+v", b)
	}
	_, port, _ := net.SplitHostPort(nodes[1].tcp)
	for _, key := range []string{"key:a:requests", "key:a:tokens", "agent:{b}:requests", "global::tokens", redisKey("", strings.Repeat("long", 100))} {
		nodes[2].do(t, "MIGRATE", "127.0.0.1", port, "{dragoman}:"+key, 0, 5000)
	}
	for _, n := range []*realRedis{nodes[1], nodes[2], nodes[0]} {
		n.do(t, "CLUSTER", "SETSLOT", slot, "NODE", id(nodes[1]))
	}
	b = []Bucket{{Key: "key:a:requests", Rate: rate, Cost: 1}}
	if !mustTake(t, s, b) || b[0].Full < 5*time.Hour || *s.node.Load() != nodes[1].tcp {
		t.Errorf("moved: %+v at %s, want six hours at %s", b, *s.node.Load(), nodes[1].tcp)
	}
}

// TestRealStall stops the server under load: every call ends with its timeout, and whatever the server says of them when it goes on
// reaches nobody.
func TestRealStall(t *testing.T) {
	r := startRedis(t)
	const timeout = 50 * time.Millisecond
	s := r.store(t, func(c *RedisConfig) { c.Timeout = timeout })
	for round := range 5 {
		var wg sync.WaitGroup
		var stopped atomic.Bool
		var failures, longest, after atomic.Int64
		done := make(chan struct{})
		for w := range 16 {
			wg.Go(func() {
				rate := Rate{Events: 1 << 40, Per: time.Hour * 1000, Burst: 1 << 40}
				var last time.Duration
				name := fmt.Sprintf("%d-%d", round, w)
				for n := int64(1); ; n++ {
					select {
					case <-done:
						return
					default:
					}
					b := []Bucket{{Key: name, Rate: rate, Cost: n << 20}}
					start := time.Now()
					ok, err := s.Take(t.Context(), b)
					took := time.Since(start)
					longest.Store(max(longest.Load(), int64(took)))
					if err != nil {
						failures.Add(1)
						continue
					}
					// What this bucket lacks is between its latest charge and the sum of all of them, if the reply is its own.
					if own := time.Duration(redisCost(rate, n<<20)); !ok || b[0].Full < own-2*time.Second && b[0].Full < last {
						t.Errorf("call %d of %s: %+v", n, name, b)
					}
					last = b[0].Full
					if stopped.Load() {
						after.Add(1)
					}
				}
			})
		}
		<-time.After(100 * time.Millisecond)
		r.signal(t, syscall.SIGSTOP)
		<-time.After(300 * time.Millisecond)
		r.signal(t, syscall.SIGCONT)
		stopped.Store(true)
		for range 500 {
			if after.Load() > 100 {
				break
			}
			<-time.After(10 * time.Millisecond)
		}
		close(done)
		wg.Wait()
		if failures.Load() == 0 || after.Load() == 0 {
			t.Errorf("round %d: %d failures, %d calls when it went on", round, failures.Load(), after.Load())
		}
		t.Logf("round %d: %d failures, the longest call took %s", round, failures.Load(), time.Duration(longest.Load()))
		if most := timeout + 250*time.Millisecond; time.Duration(longest.Load()) > most { // the machine may be slow, but not without end
			t.Errorf("round %d: a call took %s with a timeout of %s", round, time.Duration(longest.Load()), timeout)
		}
	}
}

func TestRealKilledAndBack(t *testing.T) {
	r := startRedis(t)
	s := r.store(t, func(c *RedisConfig) { c.Timeout = time.Second })
	for range 3 {
		if err := s.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.kill()
		start := time.Now()
		for range 100 {
			if ok, err := s.Take(t.Context(), tenHours("a", 1)); ok || err == nil {
				t.Fatal("a dead server decides")
			}
		}
		if took := time.Since(start); took > time.Second {
			t.Errorf("100 calls of a dead server took %s", took)
		}
		r.start(t)
		b := tenHours("a", 1)
		mustTake(t, s, b) // the first call already
	}
}

func BenchmarkRealTake(b *testing.B) {
	r := startRedis(b)
	for _, where := range []struct{ name, url string }{{"socket", r.url}, {"tcp", "redis://" + r.tcp}} {
		for _, n := range []int{1, 2, 6} {
			b.Run(fmt.Sprintf("%s/buckets=%d", where.name, n), func(b *testing.B) {
				s := r.store(b, func(c *RedisConfig) { c.URL = where.url })
				rate := Rate{Events: 1 << 40, Per: time.Second, Burst: 1 << 40}
				var buckets []Bucket
				for i := range n {
					buckets = append(buckets, Bucket{Key: fmt.Sprintf("key:somebody:%d", i), Rate: rate, Cost: 1})
				}
				b.ReportAllocs()
				for b.Loop() {
					if ok, err := s.Take(context.Background(), buckets); !ok || err != nil {
						b.Fatal(ok, err)
					}
				}
			})
		}
	}
	b.Run("parallel", func(b *testing.B) {
		s := r.store(b)
		b.SetParallelism(16)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			buckets := []Bucket{{Key: "key:somebody", Rate: Rate{Events: 1 << 40, Per: time.Second, Burst: 1 << 40}, Cost: 1}}
			for pb.Next() {
				if ok, err := s.Take(context.Background(), buckets); !ok || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
	})
}

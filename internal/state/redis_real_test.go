//go:build redis

package state

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gomodule/redigo/redis"
)

// The tests of this file, TestReal…, need a Redis: REDIS_SERVER is the path of its program. interop/run redis finds one.

// realRedis is a server process of a test's own, on a unix socket.
type realRedis struct {
	dir  string
	args []string
	cmd  *exec.Cmd
}

func startRedis(t *testing.T, more ...string) *realRedis {
	t.Helper()
	program := os.Getenv("REDIS_SERVER")
	if program == "" {
		t.Fatal("REDIS_SERVER must be the path of redis-server or valkey-server; interop/run redis sets it")
	}
	dir, err := os.MkdirTemp("", "redis")
	if err != nil {
		t.Fatal(err)
	}
	r := &realRedis{dir: dir, args: append([]string{program, "--port", "0", "--unixsocket", filepath.Join(dir, "s"), "--save", "", "--dir", dir}, more...)}
	t.Cleanup(func() {
		r.kill()
		_ = os.RemoveAll(dir)
	})
	r.start(t)
	return r
}

func (r *realRedis) start(t *testing.T) {
	t.Helper()
	r.cmd = exec.Command(r.args[0], r.args[1:]...) // #nosec G204 -- a test
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) { //nolint:forbidigo // polls another process
		c, err := net.Dial("unix", filepath.Join(r.dir, "s"))
		if err == nil {
			_ = c.Close()
			return
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func (r *realRedis) kill() {
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait()
}

func (r *realRedis) open(t *testing.T, l Limits, timeout time.Duration) *Redis {
	t.Helper()
	s, err := NewRedis(RedisConfig{URL: "unix://" + filepath.Join(r.dir, "s"), Timeout: timeout}, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// TestRealConformance has the real server keep what the interface promises.
func TestRealConformance(t *testing.T) {
	for name := range stores {
		delete(stores, name)
	}
	r := startRedis(t)
	var n atomic.Int64
	stores["redis"] = func(t *testing.T, l Limits, c *clock) Store {
		t.Helper()
		s, err := NewRedis(RedisConfig{URL: "unix://" + filepath.Join(r.dir, "s"), Prefix: fmt.Sprintf("test%d", n.Add(1))}, l)
		if err != nil {
			t.Fatal(err)
		}
		began := c.Now()
		s.now = func() time.Duration { return c.Now().Sub(began) }
		return s
	}
	for name, test := range map[string]func(*testing.T){
		"order": TestTurnsAreReadInOrder, "changes": TestChangesAreWhole, "owners": TestOwnersAreApart, "unused": TestUnusedConversationsGo,
		"room": TestTheLeastRecentlyUsedMakeRoom, "much room": TestManyMakeRoomForOne, "leases": TestLeases, "many": TestManyAtOnce, "calls": TestCallsEnd,
	} {
		t.Run(name, test)
	}
}

// TestRealRedisGoneAndBack: calls fail within their time while it is gone or does not answer, nothing is mixed up behind that, and what
// it was told to keep is there again.
func TestRealRedisGoneAndBack(t *testing.T) {
	r := startRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	s := r.open(t, Limits{}, 300*time.Millisecond)
	save(t, s, "ann", Change{Put: []Entry{put("c", Turn, "1", "one")}})

	if err := r.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(background, "ann", Read{Convs: []string{"c"}}); err == nil {
		t.Error("a server that stands still has answered")
	}
	if err := s.Save(background, "ann", Change{Put: []Entry{put("c", Turn, "2", "late")}}); err == nil {
		t.Error("a server that stands still has answered")
	}
	if err := r.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) { //nolint:forbidigo // polls another process
		if err := s.Ping(background); err == nil {
			break
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	for i := range 20 { // no late reply is taken for another's
		name := fmt.Sprint(i)
		save(t, s, "bob", Change{Put: []Entry{put("c", Turn, name, name)}})
		if got := value(t, s, "bob", Ref{"c", Turn, name}); got != name {
			t.Errorf("got %s of %s", got, name)
		}
	}

	r.kill()
	began := time.Now()
	for range 3 {
		if _, err := s.Read(background, "ann", Read{Convs: []string{"c"}}); err == nil || errors.Is(err, ErrClosed) || strings.Contains(err.Error(), "one") {
			t.Errorf("got %v", err)
		}
	}
	t.Logf("three calls without a server took %v", time.Since(began))
	_ = os.Remove(filepath.Join(r.dir, "s"))
	r.start(t)
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) { //nolint:forbidigo // polls another process
		if err := s.Ping(background); err == nil {
			break
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	if got := turns(t, s, "ann", "c"); !strings.HasPrefix(got, "1=one") {
		t.Errorf("got %s", got)
	}
}

// TestRealRedisForgets what was not used by itself too, and gives its bytes back.
func TestRealRedisForgets(t *testing.T) {
	r := startRedis(t)
	s := r.open(t, Limits{TTL: 200 * time.Millisecond}, time.Second)
	save(t, s, "ann", Change{Put: []Entry{put("c", Turn, "1", strings.Repeat("x", 100_000))}})
	for end := time.Now().Add(20 * time.Second); turns(t, s, "bob", "c") != "" || s.Stats().Expired == 0; time.Sleep(20 * time.Millisecond) { //nolint:forbidigo // polls another process
		save(t, s, "bob", Change{Put: []Entry{put("d", Turn, "1", "x")}})
		if time.Now().After(end) {
			t.Fatalf("%+v", s.Stats())
		}
	}
	if got := s.Stats(); got.Conversations != 1 || got.Bytes > 200 {
		t.Errorf("got %+v", got)
	}
}

// TestRealLargeValues: a turn of many megabytes, whatever bytes it is made of.
func TestRealLargeValues(t *testing.T) {
	r := startRedis(t)
	s := r.open(t, Limits{}, 10*time.Second)
	all := make([]byte, 16<<20)
	for i := range all {
		all[i] = byte(i)
	}
	if err := s.Save(context.Background(), "ann", Change{Put: []Entry{{Ref{"c", Turn, "1"}, all}}}); err != nil {
		t.Fatal(err)
	}
	f, err := s.Read(background, "ann", Read{Convs: []string{"c"}})
	if err != nil || string(f.Turns[0][0].Value) != string(all) {
		t.Errorf("%v", err)
	}
}

// TestRealRedisOutOfMemory: nothing new is saved and nothing half; what is there is read, can be removed, and then there is room.
func TestRealRedisOutOfMemory(t *testing.T) {
	r := startRedis(t, "--maxmemory", "4mb", "--maxmemory-policy", "noeviction")
	for _, ttl := range []time.Duration{0, time.Hour} {
		s, err := NewRedis(RedisConfig{URL: "unix://" + filepath.Join(r.dir, "s"), Prefix: ttl.String()}, Limits{TTL: ttl})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		text := strings.Repeat("x", 100_000)
		n := 0
		for ; ; n++ {
			if n == 60 {
				t.Fatal("6 MB went into 4 MB")
			}
			if err = s.Save(background, "ann", Change{Put: []Entry{put(fmt.Sprint("c", n), Turn, "1", text), put(fmt.Sprint("c", n), Object, "1", text)}}); err != nil {
				break
			}
		}
		if !strings.Contains(err.Error(), "OOM") {
			t.Errorf("got %v", err)
		}
		if got := turns(t, s, "ann", fmt.Sprint("c", n)); got != "" {
			t.Errorf("half of a change was made: %d bytes", len(got))
		}
		for i := range n {
			if got := turns(t, s, "ann", fmt.Sprint("c", i)); got != "1="+text {
				t.Errorf("c%d: %d bytes", i, len(got))
			}
			save(t, s, "ann", Change{Remove: []Ref{{Conv: fmt.Sprint("c", i)}}})
		}
		save(t, s, "ann", Change{Put: []Entry{put("d", Turn, "1", text)}})
		if got := s.Stats(); got.Conversations != 1 {
			t.Errorf("got %+v", got)
		}
		save(t, s, "ann", Change{Remove: []Ref{{Conv: "d"}}})
	}
}

// TestRealRedisForgetsScripts: a server that was told to is given them again.
func TestRealRedisForgetsScripts(t *testing.T) {
	r := startRedis(t)
	s := r.open(t, Limits{}, time.Second)
	save(t, s, "ann", Change{Put: []Entry{put("c", Turn, "1", "one")}})
	r.say(t, "SCRIPT", "FLUSH")
	if got := turns(t, s, "ann", "c"); got != "1=one" {
		t.Errorf("got %s", got)
	}
	save(t, s, "ann", Change{Put: []Entry{put("c", Turn, "2", "two")}})
}

// TestRealRedisCluster: all that a call touches is in one slot.
func TestRealRedisCluster(t *testing.T) {
	r := startRedis(t, "--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--port", fmt.Sprint(freePort(t)), "--bind", "127.0.0.1")
	slots := []any{"ADDSLOTS"}
	for i := range 16384 {
		slots = append(slots, i)
	}
	r.say(t, "CLUSTER", slots...)
	s := r.open(t, Limits{TTL: time.Hour, MaxBytes: 1000, MaxOwnerBytes: 600, MaxConversationBytes: 600}, time.Second)
	for end := time.Now().Add(longest); s.Ping(background) != nil; time.Sleep(5 * time.Millisecond) { //nolint:forbidigo // polls another process
		if time.Now().After(end) {
			t.Fatal(s.Ping(background))
		}
	}
	for i := range 20 {
		save(t, s, fmt.Sprint("owner", i%3), Change{Put: []Entry{put(fmt.Sprint("c", i), Turn, "1", strings.Repeat("x", 100))}})
	}
	if got := turns(t, s, "owner1", "c19"); got == "" || s.Stats().EvictedOwner+s.Stats().EvictedTotal == 0 {
		t.Errorf("got %q, %+v", got, s.Stats())
	}
}

// TestRealRedisBackAtOnce: connections that idled while a server was replaced cost nobody a call.
func TestRealRedisBackAtOnce(t *testing.T) {
	r := startRedis(t)
	s := r.open(t, Limits{}, longest)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 20 {
				if err := s.Save(background, "ann", Change{Put: []Entry{put(fmt.Sprint("c", i), Turn, fmt.Sprint(j), "x")}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	r.kill()
	_ = os.Remove(filepath.Join(r.dir, "s"))
	r.start(t)
	for range 20 {
		if got := turns(t, s, "ann", "c1"); got != "" { // nothing was written down: it is gone, and that is no error
			t.Errorf("got %s", got)
		}
	}
}

// TestRealRedisIsSlow: a server that pauses longer than a call may take costs that call alone.
func TestRealRedisIsSlow(t *testing.T) {
	r := startRedis(t)
	s := r.open(t, Limits{}, 200*time.Millisecond)
	save(t, s, "ann", Change{Put: []Entry{put("c", Turn, "1", "one")}})
	r.say(t, "CLIENT", "PAUSE", 1000)
	if _, err := s.Read(background, "bob", Read{Convs: []string{"c"}}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	for end := time.Now().Add(longest); s.Ping(background) != nil; {
		if time.Now().After(end) {
			t.Fatal("it did not come back")
		}
	}
	if got := turns(t, s, "ann", "c"); got != "1=one" {
		t.Errorf("got %s", got)
	}
}

// say gives the server a command.
func (r *realRedis) say(t *testing.T, command string, args ...any) {
	t.Helper()
	c, err := redis.Dial("unix", filepath.Join(r.dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Do(command, args...); err != nil {
		t.Fatal(err)
	}
}

// freePort returns one of which the one 10,000 above, where the nodes of a cluster talk, is free, too.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := ln.Addr().(*net.TCPAddr).Port
		_ = ln.Close()
		if port > 55535 {
			continue
		}
		if ln, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port+10000)); err == nil {
			_ = ln.Close()
			return port
		}
	}
	t.Fatal("there is no free port")
	return 0
}

package state

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fakeRedis answers every command with the same bytes.
func fakeRedis(t *testing.T, reply string) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				for {
					line, err := r.ReadString('\n')
					if err != nil {
						return
					}
					if strings.HasPrefix(line, "*") { // the head of a command; its arguments are read as lines
						if _, err := io.WriteString(c, reply); err != nil {
							return
						}
					}
				}
			}()
		}
	}()
	return "redis://" + ln.Addr().String()
}

// TestRedisThatMakesNoSense is an error, never somebody's conversation, and takes no longer than it may.
func TestRedisThatMakesNoSense(t *testing.T) {
	t.Parallel()
	for name, reply := range map[string]string{
		"silence": "", "garbage": "HTTP/1.1 400 Bad Request\r\n\r\n", "ok": "+OK\r\n", "number": ":1\r\n", "nothing": "*0\r\n", "null": "$-1\r\n",
		"short": "*1\r\n$1\r\nx\r\n", "odd": "*2\r\n*1\r\n$1\r\nx\r\n$-1\r\n", "error": "-OOM command not allowed when used memory > 'maxmemory'.\r\n",
		"login": "-NOAUTH Authentication required.\r\n", "huge": "$999999999999999999\r\n", "long": "*999999999\r\n", "deep": strings.Repeat("*1\r\n", 100_000), "endless": "+" + strings.Repeat("x", 1<<20),
		"overflow": "$99999999999999999999999999\r\n", "letters": "$x\r\n",
		"words": "*6\r\n$3\r\nwhy\r\n:0\r\n:0\r\n:0\r\n:0\r\n:0\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := NewRedis(RedisConfig{URL: fakeRedis(t, reply), Timeout: 200 * time.Millisecond}, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if f, err := s.Read(background, "ann", Read{Convs: []string{"c"}, Refs: []Ref{{"c", Object, "1"}}}); err == nil || len(f.Turns) != 1 || f.Turns[0] != nil || len(f.Values) != 1 || f.Values[0] != nil {
				t.Errorf("read: %v %v", f, err)
			}
			if err := s.Save(background, "ann", Change{Put: []Entry{put("c", Turn, "1", "x")}}); err == nil {
				t.Error("saved")
			}
			if err := s.Ping(background); err == nil {
				t.Error("it can be used")
			}
		})
	}
}

// TestRedisURLs: what is wrong with one is told without what is in it.
func TestRedisURLs(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "http://user:hunter2@127.0.0.1", "redis://user:hunter2@%zz", "127.0.0.1:6379"} {
		if _, err := NewRedis(RedisConfig{URL: bad}, Limits{}); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	s, err := NewRedis(RedisConfig{URL: "redis://user:hunter2@127.0.0.1:1", Timeout: 200 * time.Millisecond}, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Ping(background); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

// scripted is a server of a test's own: what answer returns is sent for each command, whose words it gets; "" closes the connection.
func scripted(t *testing.T, answer func(words []string) string) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				for r := bufio.NewReader(c); ; {
					words, err := command(r)
					if err != nil {
						return
					}
					reply := answer(words)
					if _, err := io.WriteString(c, reply); err != nil || reply == "" {
						return
					}
				}
			}()
		}
	}()
	return ln.Addr().String()
}

// command reads a command.
func command(r *bufio.Reader) (words []string, err error) {
	length := func() int {
		line, e := r.ReadString('\n')
		if e != nil {
			err = e
			return 0
		}
		n, e := strconv.Atoi(strings.Trim(line, "*$\r\n"))
		if e != nil {
			err = e
		}
		return n
	}
	n := length()
	for range n {
		b := make([]byte, length()+2)
		if err != nil {
			return nil, err
		}
		if _, err := io.ReadFull(r, b); err != nil {
			return nil, err
		}
		words = append(words, string(b[:len(b)-2]))
	}
	return words, err
}

// bulk is a value on the wire.
func bulk(text string) string { return fmt.Sprintf("$%d\r\n%s\r\n", len(text), text) }

// found is the reply to a call that asks for one entry.
func found(words []string, text string) string { return "*2\r\n" + bulk(words[4]) + bulk(text) }

func openAt(t *testing.T, address string, l Limits, timeout time.Duration) *Redis {
	t.Helper()
	s, err := NewRedis(RedisConfig{URL: "redis://" + address, Timeout: timeout}, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// longest is how long a test waits for what must happen.
const longest = 20 * time.Second

// TestRedisKnowsTheScriptLater: one that has not seen a script gets it whole, once, and no other call twice.
func TestRedisKnowsTheScriptLater(t *testing.T) {
	t.Parallel()
	var said []string
	var mu sync.Mutex
	address := scripted(t, func(words []string) string {
		mu.Lock()
		defer mu.Unlock()
		said = append(said, words[0])
		if len(said) == 1 {
			return "-NOSCRIPT No matching script. Please use EVAL.\r\n"
		}
		return found(words, "one")
	})
	s := openAt(t, address, Limits{}, longest)
	for range 2 {
		if got := value(t, s, "ann", Ref{"c", Object, "1"}); got != "one" {
			t.Errorf("got %s", got)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(said, " "); got != "EVALSHA EVAL EVALSHA" {
		t.Errorf("got %s", got)
	}
}

// TestRedisLateReplies reach nobody: a reply to another call is an error, and the connection that it came on is not used again.
func TestRedisLateReplies(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	address := scripted(t, func(words []string) string {
		switch calls.Add(1) {
		case 1: // an answer to nobody behind it
			return found(words, "one") + found(words, "of ann")
		case 2: // somebody else's, which came late
			words[4] = "17"
			return found(words, "of ann")
		}
		return found(words, "own")
	})
	s := openAt(t, address, Limits{}, longest)
	ask := func(owner, want string) error { // an error, or what was asked for
		f, err := s.Read(background, owner, Read{Refs: []Ref{{"c", Object, "1"}}})
		if err == nil && string(f.Values[0]) != want {
			t.Errorf("%s got %s", owner, f.Values[0])
		}
		return err
	}
	_ = ask("ann", "one") // an error if what is too much is seen at once
	for end := time.Now().Add(longest); calls.Load() < 3; {
		_ = ask("bob", "own")
		if time.Now().After(end) {
			t.Fatal("the connections were not dialled anew")
		}
	}
	if err := ask("bob", "own"); err != nil {
		t.Error(err)
	}
}

// TestRedisRepliesHaveABound: what is larger than may be kept is refused before there is room for it, what is as large is not.
func TestRedisRepliesHaveABound(t *testing.T) {
	t.Parallel()
	for size, fits := range map[int]bool{1 << 20: true, 2 << 20: false, 1 << 50: false} {
		address := scripted(t, func(words []string) string {
			if fits {
				return found(words, strings.Repeat("x", size))
			}
			return "*2\r\n" + bulk(words[4]) + fmt.Sprintf("$%d\r\nxxx", size)
		})
		s := openAt(t, address, Limits{MaxBytes: 1 << 30, MaxConversationBytes: 1 << 20}, longest)
		f, err := s.Read(background, "ann", Read{Refs: []Ref{{"c", Object, "1"}}})
		if fits && (err != nil || len(f.Values[0]) != size) || !fits && !errors.Is(err, errRedisLarge) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

// TestRedisCluster: a node that has not the slot says who has; that is remembered, or for one call.
func TestRedisCluster(t *testing.T) {
	t.Parallel()
	var asking atomic.Int64
	right := scripted(t, func(words []string) string {
		if words[0] == "ASKING" {
			asking.Add(1)
			return "+OK\r\n"
		}
		return found(words, "one")
	})
	for _, word := range []string{"MOVED", "ASK"} {
		var asked atomic.Int64
		wrong := scripted(t, func([]string) string {
			asked.Add(1)
			return "-" + word + " 42 " + right + "\r\n"
		})
		s := openAt(t, wrong, Limits{}, longest)
		for range 3 {
			if got := value(t, s, "ann", Ref{"c", Object, "1"}); got != "one" {
				t.Errorf("%s: got %s", word, got)
			}
		}
		if got, want := asked.Load(), map[string]int64{"MOVED": 1, "ASK": 3}[word]; got != want {
			t.Errorf("%s: the first node was asked %d times, not %d", word, got, want)
		}
	}
	if got := asking.Load(); got != 3 {
		t.Errorf("ASKING was said %d times, not 3", got)
	}
	round := ""
	there := scripted(t, func([]string) string { return "-MOVED 42 " + round + "\r\n" })
	round = there
	if err := openAt(t, there, Limits{}, longest).Ping(background); err == nil {
		t.Error("nodes that send each other's callers round have answered")
	}
}

// TestRedisCallsAreGivenUp with their context, and what they were to send is their caller's again at once.
func TestRedisCallsAreGivenUp(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and reads nothing
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	s := openAt(t, ln.Addr().String(), Limits{}, 10*longest)
	ctx, stop := context.WithCancel(background)
	conn := make(chan net.Conn)
	go func() {
		c, err := ln.Accept()
		if err == nil {
			stop()
			conn <- c
		}
	}()
	mine := make([]byte, 64<<20) // more than the kernel takes
	err = s.Save(ctx, "ann", Change{Put: []Entry{{Ref{"c", Turn, "1"}, mine}}})
	for i := range mine {
		mine[i] = 'x'
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	_ = (<-conn).Close()
}

// TestRedisIsNotAskedTwice when a reply is lost: nobody knows whether the call was made.
func TestRedisIsNotAskedTwice(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	s := openAt(t, scripted(t, func([]string) string { calls.Add(1); return "" }), Limits{}, longest)
	if err := s.Save(background, "ann", Change{Put: []Entry{put("c", Turn, "1", "x")}}); err == nil {
		t.Error("saved")
	}
	if got := calls.Load(); got != 1 {
		t.Errorf("%d calls", got)
	}
}

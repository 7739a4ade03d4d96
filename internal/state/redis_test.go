package state

import (
	"bufio"
	"io"
	"net"
	"strings"
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
		"login": "-NOAUTH Authentication required.\r\n", "words": "*6\r\n$3\r\nwhy\r\n:0\r\n:0\r\n:0\r\n:0\r\n:0\r\n",
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

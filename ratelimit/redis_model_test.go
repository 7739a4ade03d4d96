package ratelimit

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"math/big"
	"math/rand/v2"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// redisModel does what the script does, with the same operations on the same doubles, and holds what Redis would hold. Its answers
// are checked against exact arithmetic here, and against the script in a real server in the suite that needs one.
type redisModel struct {
	mu      sync.Mutex
	micros  int64 // the clock, since 1970
	values  map[string]string
	expires map[string]int64 // milliseconds that were given with PX
}

var (
	redisModelValue = regexp.MustCompile(`^\d{4,19}$`)
	redisModelReply = regexp.MustCompile(`:(\d+)\r\n`)
)

func (m *redisModel) eval(keys, argv []string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	number := func(s string) float64 {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			panic(err)
		}
		return f
	}
	now := number(strconv.FormatInt(m.micros/1000000, 10))*1000000 + number(strconv.FormatInt(m.micros%1000000, 10))
	const most float64 = redisMost
	decide, ok := argv[1] == "1", 1
	full, fits := make([]float64, len(keys)), make([]int, len(keys))
	for i, key := range keys {
		cost, room, rest := number(argv[2+2*i]), number(argv[3+2*i]), 0.0
		if v := m.values[key]; redisModelValue.MatchString(v) {
			rest = (number(v[:len(v)-3])-now)*1000 + number(v[len(v)-3:])
			rest = min(max(rest, 0), most)
		}
		full[i], fits[i] = rest, 1
		if rest+cost > room && (cost <= room || rest > 0) {
			fits[i] = 0
			if decide {
				ok = 0
			}
		}
	}
	var reply strings.Builder
	fmt.Fprintf(&reply, "*%d\r\n:%s\r\n:%d\r\n", 2+2*len(keys), argv[0], ok)
	for i, key := range keys {
		cost, rest := number(argv[2+2*i]), full[i]
		if ok == 1 && cost != 0 {
			rest = min(max(rest+cost, 0), most)
			if rest > 0 {
				ns := math.Mod(rest, 1000)
				m.values[key] = fmt.Sprintf("%.0f%03d", now+(rest-ns)/1000, int(ns))
				m.expires[key] = int64(math.Ceil(rest/1000000) + 10)
			} else {
				delete(m.values, key)
				delete(m.expires, key)
			}
		}
		fmt.Fprintf(&reply, ":%d\r\n:%d\r\n", int64(rest), fits[i])
	}
	return reply.String()
}

func newRedisModel() *redisModel {
	return &redisModel{micros: 1790000000123456, values: map[string]string{}, expires: map[string]int64{}}
}

// fakeRedis is a Redis in the test: it reads commands and answers what its function returns: "work" for what a healthy one says, "" for nothing.
type fakeRedis struct {
	ln     net.Listener
	model  *redisModel
	answer func(c *fakeClient, args []string) string

	mu    sync.Mutex
	conns []*fakeClient
	seen  [][]string
	wg    sync.WaitGroup
}

// fakeClient is a connection to it.
type fakeClient struct {
	net.Conn
	number int           // of the connection, from 0
	gone   chan struct{} // closed when the client left
}

// serveRedis starts a server on a listener, by default one of its own; answer may be nil, for one that works.
func serveRedis(t *testing.T, ln net.Listener, answer func(c *fakeClient, args []string) string) *fakeRedis {
	t.Helper()
	if ln == nil {
		var err error
		if ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	s := &fakeRedis{ln: ln, model: newRedisModel(), answer: answer}
	s.wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.take(c)
		}
	})
	t.Cleanup(s.stop)
	return s
}

func (s *fakeRedis) stop() {
	s.ln.Close()
	s.drop()
	s.wg.Wait()
}

// drop closes all connections.
func (s *fakeRedis) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.Close()
	}
}

// take serves one connection.
func (s *fakeRedis) take(conn net.Conn) {
	s.mu.Lock()
	c := &fakeClient{Conn: conn, number: len(s.conns), gone: make(chan struct{})}
	s.conns = append(s.conns, c)
	s.mu.Unlock()
	s.wg.Go(func() {
		defer close(c.gone)
		defer c.Close()
		in := bufio.NewReader(c)
		for {
			args, err := readRedisCommand(in)
			if err != nil {
				return
			}
			s.mu.Lock()
			s.seen = append(s.seen, args)
			s.mu.Unlock()
			reply := "work"
			if s.answer != nil {
				reply = s.answer(c, args)
			}
			if reply == "work" {
				reply = s.work(args)
			}
			if _, err := io.WriteString(c, reply); err != nil {
				return
			}
		}
	})
}

// work is what a healthy server answers.
func (s *fakeRedis) work(args []string) string {
	switch args[0] {
	case "EVAL", "EVALSHA":
		if args[0] == "EVAL" && args[1] != redisScript || args[0] == "EVALSHA" && args[1] != redisScriptHash {
			return "-NOSCRIPT No matching script. Please use EVAL.\r\n"
		}
		n, err := strconv.Atoi(args[2])
		if err != nil {
			return "-ERR\r\n"
		}
		return s.model.eval(args[3:3+n], args[3+n:])
	case "AUTH", "SELECT", "ASKING":
		return "+OK\r\n"
	}
	return "-ERR unknown command\r\n"
}

// commands returns the names of what was received so far, in order.
func (s *fakeRedis) commands() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for _, args := range s.seen {
		names = append(names, args[0])
	}
	return strings.Join(names, " ")
}

func (s *fakeRedis) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

func (s *fakeRedis) conn(n int) *fakeClient {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns[n]
}

func readRedisCommand(in *bufio.Reader) (args []string, err error) {
	length := func(kind byte) (int, error) {
		line, err := in.ReadString('\n')
		if err != nil {
			return 0, err
		}
		if line[0] != kind {
			return 0, fmt.Errorf("%q", line)
		}
		return strconv.Atoi(strings.TrimSpace(line[1:]))
	}
	n, err := length('*')
	for range n {
		size, err := length('$')
		if err != nil {
			return nil, err
		}
		text := make([]byte, size+2)
		if _, err := io.ReadFull(in, text); err != nil {
			return nil, err
		}
		args = append(args, string(text[:size]))
	}
	return args, err
}

// redisExact is the rule in integers of nanoseconds, which need no care.
type redisExact struct{ tat map[string]*big.Int }

func (e *redisExact) run(now int64, decide bool, keys []string, cost, room []int64) (ok bool, full []int64) {
	rest := func(key string) int64 {
		if e.tat[key] == nil {
			return 0
		}
		left := new(big.Int).Sub(e.tat[key], new(big.Int).Mul(big.NewInt(now), big.NewInt(1000)))
		return min(max(left.Int64(), 0), redisMost)
	}
	ok = true
	for i, key := range keys {
		if r := rest(key); decide && r+cost[i] > room[i] && (cost[i] <= room[i] || r > 0) {
			ok = false
		}
	}
	for i, key := range keys {
		r := rest(key)
		if ok {
			r = min(max(r+cost[i], 0), redisMost)
			e.tat[key] = new(big.Int).Add(new(big.Int).Mul(big.NewInt(now), big.NewInt(1000)), big.NewInt(r))
		}
		full = append(full, r)
	}
	return ok, full
}

// redisLife is a long random life of three buckets, of every size of cost, for a script with a clock that can be set.
func redisLife(t *testing.T, n int, run func(micros int64, keys, argv []string) (reply string)) {
	t.Helper()
	random := rand.New(rand.NewPCG(1, 2))
	truth := redisExact{tat: map[string]*big.Int{}}
	now := int64(1790000000123456)
	size := func() int64 { return random.Int64N(1 << (1 + random.IntN(50))) }
	for i := range n {
		switch random.IntN(4) {
		case 0:
			now += random.Int64N(1 << (1 + random.IntN(40)))
		case 1:
			now += random.Int64N(3)
		}
		if random.IntN(500) == 0 {
			now = 9000000000000000 - random.Int64N(1<<40) // the year 2255
		} else if now > 8e15 {
			now, truth.tat = int64(1790000000000000), map[string]*big.Int{}
			run(0, nil, nil) // forget
		}
		decide := random.IntN(3) > 0
		var keys []string
		var cost, room []int64
		flag := map[bool]string{true: "1", false: "0"}[decide]
		argv := []string{strconv.Itoa(i), flag}
		for _, k := range random.Perm(3)[:1+random.IntN(3)] {
			keys = append(keys, "{dragoman}:"+strconv.Itoa(k))
			c := size()
			if random.IntN(50) == 0 {
				c = redisMost
			}
			if !decide && random.IntN(2) == 0 {
				c = -c
			}
			cost, room = append(cost, c), append(room, size())
			argv = append(argv, strconv.FormatInt(c, 10), strconv.FormatInt(room[len(room)-1], 10))
		}
		ok, full := truth.run(now, decide, keys, cost, room)
		got := redisModelReply.FindAllStringSubmatch(run(now, keys, argv), -1)
		if len(got) != 2+2*len(keys) {
			t.Fatalf("step %d: %q", i, got)
		}
		if (got[1][1] == "1") != ok {
			t.Fatalf("step %d: %s, want %t", i, got[1][1], ok)
		}
		for k := range keys {
			if got[2+2*k][1] != strconv.FormatInt(full[k], 10) {
				t.Fatalf("step %d, bucket %d: %s, want %d (cost %d)", i, k, got[2+2*k][1], full[k], cost[k])
			}
		}
	}
}

func TestDoublesOfTheScriptAreExact(t *testing.T) {
	t.Parallel()
	m := newRedisModel()
	redisLife(t, 20000, func(micros int64, keys, argv []string) string {
		if keys == nil {
			clear(m.values)
			return ""
		}
		m.micros = micros
		return m.eval(keys, argv)
	})
}

// A thousand million tokens a minute: each is 60 ns, less than Redis' clock can tell.
func TestCostsBelowAMicrosecondAreNotLost(t *testing.T) {
	t.Parallel()
	rate := Rate{Events: 1e9, Per: time.Minute, Burst: 1e9}
	m := newRedisModel()
	argv := []string{"1", "0", strconv.FormatInt(redisCost(rate, 1), 10), strconv.FormatInt(int64(rate.capacity()), 10)}
	for range 20_000 {
		m.eval([]string{"k"}, argv)
	}
	if got, want := m.values["k"], "1790000000124656000"; got != want {
		t.Errorf("20,000 tokens: the bucket is full again at %s, want %s", got, want)
	}
}

func TestScriptKnowsTheLargestDebt(t *testing.T) {
	t.Parallel()
	if want := fmt.Sprintf("local most = %d\n", int64(redisMost)); !strings.Contains(redisScript, want) {
		t.Errorf("the script has no %q", want)
	}
}

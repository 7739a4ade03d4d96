package state

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/gomodule/redigo/redis"
)

const (
	redisHops  = 3        // redirections of one call: a cluster needs one
	redisSmall = 64 << 10 // bytes of a reply without values
)

// redisTarget is what a URL says.
type redisTarget struct {
	network, address string
	user, password   string
	db               int
	secure           bool
}

// parseRedisURL reads a URL; its errors repeat nothing of it.
func parseRedisURL(text string) (t redisTarget, err error) {
	wrong := errors.New("redis: this is no URL of the form redis://[user:password@]host:port/db, rediss://… or unix:///path?db=n; special characters of a password are written as %XX")
	u, err := url.Parse(text)
	if err != nil || u.Opaque != "" || u.Fragment != "" {
		return t, wrong
	}
	db := strings.TrimPrefix(u.Path, "/")
	switch u.Scheme {
	case "redis", "rediss":
		port := u.Port()
		if port == "" {
			port = "6379"
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || u.Hostname() == "" || u.RawQuery != "" {
			return t, wrong
		}
		t.network, t.address, t.secure = "tcp", net.JoinHostPort(u.Hostname(), port), u.Scheme == "rediss"
	case "unix":
		if u.Host != "" || db == "" {
			return t, wrong
		}
		t.network, t.address, db = "unix", u.Path, u.Query().Get("db")
	default:
		return t, wrong
	}
	if u.User != nil {
		t.user = u.User.Username()
		if t.password, _ = u.User.Password(); t.password == "" {
			return t, errors.New("redis: the URL has a user but no password: write redis://user:password@host, or redis://:password@host")
		}
	}
	if db != "" {
		if t.db, err = strconv.Atoi(db); err != nil || t.db < 0 {
			return t, wrong
		}
	}
	return t, nil
}

// redisCall is the first argument of a call: what its reply must be like.
type redisCall struct {
	number string // that the reply begins with; none: a command of our own
	bytes  int64  // that it has at most
	lists  int    // that it consists of at most
}

// redisConn is a connection of the pool: the library's, over a wire that has bounds for each call. It is not used
// again after anything but the reply that was expected, or a refusal: it would be a guess whose reply comes next.
type redisConn struct {
	redis.Conn // the library's
	wire       *redisWire
	store      *Redis
	address    string
	broken     error
}

// DoContext makes one call, and returns when nobody reads its arguments any more: they are the caller's.
func (c *redisConn) DoContext(ctx context.Context, command string, args ...any) (any, error) {
	call := redisCall{bytes: redisSmall, lists: 1}
	if len(args) > 0 {
		if of, ok := args[0].(redisCall); ok {
			call, args = of, args[1:]
		}
	}
	deadline, _ := ctx.Deadline()
	c.wire.begin(deadline, call)
	stop := context.AfterFunc(ctx, func() { _ = c.wire.Close() })
	reply, err := c.Do(command, args...)
	if errors.Is(err, os.ErrDeadlineExceeded) { // the wire's own, a moment before the context's
		err = context.DeadlineExceeded
	}
	if !stop() { // it is closed, or will be
		c.broken = ctx.Err()
		if err != nil {
			err = ctx.Err()
		}
	}
	switch {
	case err != nil && redisWord(err) == "":
		c.broken = err
		c.store.failedAt.Store(time.Now().UnixNano())
	case err != nil:
		switch redisWord(err) {
		case "READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN": // another may be the right one when it is dialled anew
			c.broken = err
			c.store.node.Store(nil)
		}
	case call.number != "":
		list, ok := reply.([]any)
		if !ok || len(list) == 0 || !redisIs(list[0], call.number) {
			err, c.broken = errRedisReply, errRedisReply
			break
		}
		reply = list[1:]
	}
	if c.broken != nil {
		_ = c.wire.Close()
	}
	return reply, err
}

func redisIs(reply any, text string) bool {
	b, ok := reply.([]byte)
	return ok && string(b) == text
}

// ReceiveContext completes the interface that DoContext is part of.
func (c *redisConn) ReceiveContext(context.Context) (any, error) { return nil, errors.ErrUnsupported }

// Err tells the pool whether the connection can be used again.
func (c *redisConn) Err() error {
	if c.broken != nil {
		return c.broken
	}
	return c.Conn.Err()
}

var errRedisStale = errors.New("a stale connection")

// usable looks at an idle connection of the pool before it is used again. One error is enough to doubt those that idle: behind a
// server that went, each would cost a call.
func (s *Redis) usable(ctx context.Context, c redis.Conn, used time.Time) error {
	conn, ok := c.(*redisConn)
	if !ok || conn.address != s.address() || used.UnixNano() <= s.failedAt.Load() || !redisQuiet(conn.wire.raw) {
		return errRedisStale
	}
	if time.Since(used) < redisAsk {
		return nil
	}
	_, err := conn.DoContext(ctx, "PING")
	return err
}

// address returns where to dial.
func (s *Redis) address() string {
	if node := s.node.Load(); node != nil {
		return *node
	}
	return s.to.address
}

// connect dials for the pool: the node that a cluster named, and if that is gone, where the URL says.
func (s *Redis) connect(ctx context.Context) (redis.Conn, error) {
	if node := s.node.Load(); node != nil {
		c, err := s.connectTo(ctx, *node)
		if err == nil {
			return c, nil
		}
		s.node.CompareAndSwap(node, nil)
	}
	return s.connectTo(ctx, s.to.address)
}

// connectTo dials, shakes hands, logs in and selects the database, all before the context's deadline.
func (s *Redis) connectTo(ctx context.Context, address string) (redis.Conn, error) {
	raw, err := (&net.Dialer{}).DialContext(ctx, s.to.network, address)
	if err != nil {
		return nil, err
	}
	conn := raw
	if s.to.secure {
		host, _, _ := net.SplitHostPort(address)
		secure := tls.Client(raw, &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host})
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, err
		}
		conn = secure
	}
	wire := &redisWire{Conn: conn, raw: raw}
	c := &redisConn{Conn: redis.NewConn(wire, 0, 0), wire: wire, store: s, address: address}
	if s.to.password != "" {
		args := []any{s.to.user, s.to.password}
		if s.to.user == "" {
			args = args[1:]
		}
		if _, err := c.DoContext(ctx, "AUTH", args...); err != nil {
			_ = c.Close()
			return nil, err
		}
	}
	if s.to.db != 0 {
		if _, err := c.DoContext(ctx, "SELECT", s.to.db); err != nil {
			_ = c.Close()
			return nil, err
		}
	}
	return c, nil
}

// once makes a call on a connection of the pool; or on one of its own, if a cluster that is moving the slot said whom to ask.
func (s *Redis) once(ctx context.Context, script redisScript, call redisCall, ask string, args []any) (any, error) {
	var conn redis.Conn
	var err error
	if ask == "" {
		conn, err = s.pool.GetContext(ctx)
	} else {
		conn, err = s.connectTo(ctx, ask)
	}
	if err != nil {
		return nil, err
	}
	defer conn.Close() //nolint:errcheck // nothing is pending: either the reply was read, or it is closed already
	run := func(command, which string) (any, error) {
		if ask != "" {
			if _, err := redis.DoContext(conn, ctx, "ASKING"); err != nil {
				return nil, err
			}
		}
		return redis.DoContext(conn, ctx, command, append([]any{call, which, 1, s.prefix, call.number}, args...)...)
	}
	reply, err := run("EVALSHA", script.hash)
	if redisWord(err) == "NOSCRIPT" { // it did not run: the server is new, or was flushed
		reply, err = run("EVAL", script.text)
	}
	return reply, err
}

// redirected reports whether a node of a cluster said, instead of running the script, who has the slot: for good, which is
// remembered, or for this call, which is ask. Nothing was changed.
func (s *Redis) redirected(err error) (ask string, moved bool) {
	said, ok := errors.AsType[redis.Error](err)
	if !ok {
		return "", false
	}
	word := strings.Fields(string(said)) // "MOVED 3999 127.0.0.1:6381"
	if len(word) < 3 || word[0] != "MOVED" && word[0] != "ASK" || s.to.network != "tcp" {
		return "", false
	}
	address := word[2]
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "?" {
		return "", false
	}
	if host == "" { // the node does not know its own name: the one we know it by
		now, _, err := net.SplitHostPort(s.address())
		if err != nil {
			return "", false
		}
		address = net.JoinHostPort(now, port)
	}
	if word[0] == "ASK" {
		return address, true
	}
	s.node.Store(&address)
	return "", true
}

// redisWord returns the first word of an error that the server sent, OOM or WRONGPASS; "" for every other error.
func redisWord(err error) string {
	said, ok := errors.AsType[redis.Error](err)
	if !ok {
		return ""
	}
	text := string(said)
	if _, inner, ok := strings.Cut(text, ": -"); ok && strings.HasPrefix(text, "ERR Error running script") { // before Redis 7
		text = inner
	}
	word, _, _ := strings.Cut(text, " ")
	if word == "" || len(word) > 20 || strings.Trim(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return "ERR"
	}
	return word
}

var errRedisLarge = errors.New("redis: the reply is larger than what may be kept")

// redisWire bounds each call, in time by a deadline that the library cannot move, and in space: the library would make room for
// whatever length it is told.
type redisWire struct {
	net.Conn
	raw   net.Conn // below TLS
	left  int64    // what the reply may still have, in bytes
	lists int      // and of how many lists it may still consist
	skip  int64    // what is left of a value and the end of its line
	kind  byte     // of the line that is being read; 0: at its begin
	n     int64    // the length in it
}

// begin sets the bounds of the next call.
func (w *redisWire) begin(deadline time.Time, c redisCall) {
	w.left, w.lists, w.skip, w.kind = c.bytes, c.lists, 0, 0
	_ = w.SetDeadline(deadline) // what it cannot be set for fails in reading
}

// Close closes it without a farewell, which a peer that stands still could hold up.
func (w *redisWire) Close() error { return w.raw.Close() }

// SetReadDeadline does nothing: begin has set it.
func (*redisWire) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing: begin has set it.
func (*redisWire) SetWriteDeadline(time.Time) error { return nil }

// Read reads what may be part of a reply: no length in it is more than is left.
func (w *redisWire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if w.left -= int64(n); w.left < 0 {
		return 0, errRedisLarge
	}
	for at := 0; at < n; {
		if w.skip > 0 {
			some := min(w.skip, int64(n-at))
			w.skip -= some
			at += int(some)
			continue
		}
		if bad := w.line(p[at], int64(n-at)); bad != nil {
			return 0, bad
		}
		at++
	}
	return n, err
}

// line takes a byte that is not of a value; here are the bytes of the reply that were read, with it.
func (w *redisWire) line(c byte, here int64) error {
	switch {
	case w.kind == 0:
		w.kind, w.n = c, 0
	case c == '\n':
		switch {
		case w.n < 0: // null
		case w.kind == '$':
			w.skip = w.n + 2
		case w.kind == '*':
			if w.lists--; w.lists < 0 || w.n > (w.left+here)/3 { // an element has three bytes at least
				return errRedisReply
			}
		}
		w.kind = 0
	case w.kind != '$' && w.kind != '*', c == '\r':
	case c == '-' && w.n == 0:
		w.n = -1
	case c < '0' || c > '9':
		return errRedisReply
	case w.n >= 0:
		if w.n = w.n*10 + int64(c-'0'); w.n > w.left+here {
			return errRedisLarge
		}
	}
	return nil
}

// redisRefusal is what the server said, in one word: the rest may repeat our arguments.
func redisRefusal(word string) error { return fmt.Errorf("redis refused: %s", word) }

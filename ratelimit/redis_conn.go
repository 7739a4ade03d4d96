package ratelimit

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"time"

	"github.com/gomodule/redigo/redis"
)

// redisConn is a connection of the pool: the library's, over a wire that has a deadline and a bound for each call. It has one
// user at a time, and is not used again after anything but the reply that was expected: it would be a guess whose
// reply comes next, and a server that refuses (a replica, one that loads its data) is found anew by dialling.
type redisConn struct {
	redis.Conn // the library's
	wire       *redisWire
	store      *RedisStore
	address    string
	broken     error
}

// redisDo makes one call, within the context's deadline. Its cancellation is not watched: that is a matter of milliseconds, and
// would cost a connection.
func redisDo(ctx context.Context, c redis.Conn, command string, args ...any) (any, error) {
	deadline, _ := ctx.Deadline()
	left := time.Until(deadline)
	if left <= 0 {
		return nil, context.DeadlineExceeded
	}
	return redis.DoWithTimeout(c, left, command, args...)
}

// DoWithTimeout makes one call: the script's, if the argument is one, whose reply is read into it.
func (c *redisConn) DoWithTimeout(timeout time.Duration, command string, args ...any) (reply any, err error) {
	var call *redisCall
	if len(args) == 1 {
		if of, ok := args[0].(*redisCall); ok {
			call = of
			script := redisScript
			if command == "EVALSHA" {
				script = redisScriptHash
			}
			args = call.args(script)
		}
	}
	c.wire.begin(time.Now().Add(timeout))
	reply, err = c.Do(command, args...)
	switch {
	case err == nil && call != nil:
		if err = call.read(reply); err != nil {
			c.broken = err
		}
	case err != nil && redisCode(err) != "NOSCRIPT":
		c.broken = err
	}
	if c.broken != nil {
		c.wire.Close() //nolint:errcheck // it is given up
		c.store.gaveUp(c.broken)
	}
	return reply, err
}

// ReceiveWithTimeout completes the interface that DoWithTimeout is part of.
func (c *redisConn) ReceiveWithTimeout(time.Duration) (any, error) {
	return nil, errors.ErrUnsupported
}

// Err tells the pool whether the connection can be used again.
func (c *redisConn) Err() error {
	if c.broken != nil {
		return c.broken
	}
	return c.Conn.Err()
}

// gaveUp remembers that a connection failed. One error is enough to doubt those that idle: behind a server that went, or a path that
// forgot them, each would cost a timeout of its own. If the server refused, then another may be the cluster's choice now.
func (s *RedisStore) gaveUp(err error) {
	switch redisCode(err) {
	case "MOVED", "ASK", "TRYAGAIN":
	case "":
		s.failed.Store(time.Now().UnixNano())
	default:
		s.node.Store(nil)
	}
}

// usable looks at an idle connection of the pool before it is used again.
func (s *RedisStore) usable(_ context.Context, c redis.Conn, used time.Time) error {
	conn, ok := c.(*redisConn)
	if !ok || conn.address != s.address() || used.UnixNano() <= s.failed.Load() || !redisQuiet(conn.wire.raw) {
		return errRedisStale
	}
	return nil
}

var errRedisStale = errors.New("a stale connection")

// connect dials for the pool: the node that a cluster named, and if that is gone, where the URL says.
func (s *RedisStore) connect(ctx context.Context) (redis.Conn, error) {
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
func (s *RedisStore) connectTo(ctx context.Context, address string) (redis.Conn, error) {
	raw, err := s.dial(ctx, s.to.network, address)
	if err != nil {
		return nil, err
	}
	conn := raw
	if s.to.tls != nil {
		config := s.to.tls
		if config.ServerName == "" {
			config = config.Clone()
			config.ServerName, _, _ = net.SplitHostPort(address)
		}
		secure := tls.Client(raw, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			raw.Close() //nolint:errcheck // it is given up
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
		if _, err := redisDo(ctx, c, "AUTH", args...); err != nil {
			c.Close() //nolint:errcheck // it is given up
			return nil, redisLoginError(err)
		}
	}
	if s.to.db != 0 {
		if _, err := redisDo(ctx, c, "SELECT", s.to.db); err != nil {
			c.Close() //nolint:errcheck // it is given up
			return nil, err
		}
	}
	return c, nil
}

// errRedisLogin is a login that failed; if the server said why, then in one word of its own at most: servers that know no AUTH repeat
// its arguments.
type errRedisLogin struct {
	code string
	err  error // if the server said nothing
}

func redisLoginError(err error) error {
	switch code := redisCode(err); code {
	case "":
		return errRedisLogin{err: err}
	case "WRONGPASS", "NOAUTH", "NOPERM", "LOADING", "DENIED":
		return errRedisLogin{code: code}
	default:
		return errRedisLogin{code: "ERR"}
	}
}

func (e errRedisLogin) Error() string {
	if e.err == nil {
		return "the login was refused: " + e.code
	}
	return "the login failed: " + e.err.Error()
}

// Unwrap returns the cause unless the server said it.
func (e errRedisLogin) Unwrap() error { return e.err }

// errRedisRefused is an error that the server sent. It is shown as one line of modest length.
type errRedisRefused struct{ err error }

func (e errRedisRefused) Error() string {
	text := []byte("redis: the server said " + e.err.Error())
	for i, c := range text {
		if c < ' ' || c > '~' {
			text[i] = '?'
		}
	}
	if len(text) > 200 {
		text = append(text[:200], "..."...)
	}
	return string(text)
}

func (e errRedisRefused) Unwrap() error { return e.err }

// redisCode returns the first word of an error that the server sent, ERR or WRONGPASS; "" for every other error.
func redisCode(err error) string {
	var reply redis.Error
	if !errors.As(err, &reply) {
		return ""
	}
	code, _, _ := strings.Cut(string(reply), " ")
	for _, c := range []byte(code) {
		if c < 'A' || c > 'Z' {
			return "ERR"
		}
	}
	if code == "" || len(code) > 20 {
		return "ERR"
	}
	return code
}

// redisReplyLimit bounds a reply: the largest that is expected has some hundred bytes, and errors have a line.
const redisReplyLimit = 16 << 10

var errRedisGarbage = errors.New("what was received is no reply of Redis")

// redisWire bounds each call, in time by a deadline that the library cannot move, and in space: the library would make room for
// whatever length it is told.
type redisWire struct {
	net.Conn
	raw   net.Conn // below TLS
	left  int      // what the reply may still have, in bytes
	begun bool     // not at the first byte of a line
	long  int      // digits seen of a length; -1: this line has none
}

// begin sets the bounds of the next call.
func (w *redisWire) begin(deadline time.Time) {
	w.left, w.begun = redisReplyLimit, false
	w.SetDeadline(deadline)
}

// SetReadDeadline does nothing: begin has set it.
func (*redisWire) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing: begin has set it.
func (*redisWire) SetWriteDeadline(time.Time) error { return nil }

// Read reads what may be part of a reply: no length in it has more than two digits.
func (w *redisWire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if w.left -= n; w.left < 0 {
		return 0, errRedisGarbage
	}
	for _, c := range p[:n] {
		switch {
		case !w.begun:
			w.begun, w.long = true, -1
			if c == '*' || c == '$' {
				w.long = 0
			}
		case c == '\n':
			w.begun = false
		case w.long >= 0 && c != '\r':
			if w.long++; w.long > 2 {
				return 0, errRedisGarbage
			}
		}
	}
	return n, err
}

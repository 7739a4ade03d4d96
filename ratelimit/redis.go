package ratelimit

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/gomodule/redigo/redis"
)

const (
	// DefaultRedisTimeout is how long a call of a [RedisStore] takes at most unless its configuration says otherwise.
	DefaultRedisTimeout = 50 * time.Millisecond
	// DefaultRedisPrefix is what the hash tag in front of every key says unless the configuration says otherwise.
	DefaultRedisPrefix = "dragoman"

	redisConns    = 64              // connections at most: calls are short, so that this is some 50,000 a second
	redisIdle     = 4 * time.Minute // until an unused one is closed: shorter than most balancers' and servers' patience
	redisHops     = 3               // redirections of one call: a cluster needs one
	redisKeyLimit = 128             // longer names are hashed, so that the memory of a bucket has a bound
	redisBuckets  = 40              // in a call; the limiter has six at most
)

// RedisConfig says where the Redis is and how long a call may take.
type RedisConfig struct {
	// URL is redis://[[user]:password@]host[:port][/db], rediss:// for TLS, or unix://[[user]:password@]/path[?db=n].
	URL string
	// Timeout bounds a whole call, with the wait for a connection, its dialling and its handshake where that is needed.
	// Zero: DefaultRedisTimeout.
	Timeout time.Duration
	// Prefix names the hash tag of all keys, {Prefix}:, so that one slot of a cluster holds them all. Those who share
	// counts share a prefix. Empty: DefaultRedisPrefix.
	Prefix string
	// TLS is how the server of a rediss:// URL is verified. Nil: by the system's roots. It is not changed.
	TLS *tls.Config
}

// RedisStore keeps buckets in a Redis, so that all replicas of the proxy count together. A call is one round trip of one
// script, which Redis runs as a whole and by its own clock: what the clocks of the replicas say does not matter.
//
// A call that fails may have charged: if the reply is lost, nobody knows whether the script ran. It is not tried again, because then
// one request might be charged twice. A connection whose call failed in any way is closed, so that its late reply never reaches
// another call; and every reply bears the number of its call.
//
// It dials when it is first needed, and may be used by several goroutines at once.
type RedisStore struct {
	to      redisTarget
	timeout time.Duration
	prefix  string // "{…}:"
	pool    *redis.Pool
	dial    func(ctx context.Context, network, address string) (net.Conn, error)

	node   atomic.Pointer[string] // where the slot is, as the cluster's latest redirection had it; nil: where the URL says
	failed atomic.Int64           // when a connection failed last, Unix nanoseconds: those that idled since are not trusted
	number atomic.Int64           // of the latest call
}

var _ Store = (*RedisStore)(nil)

// NewRedis returns a store that dials what the configuration says when it is first used. The errors are of the configuration alone, and
// repeat nothing of the URL, which may hold a password.
func NewRedis(c RedisConfig) (*RedisStore, error) {
	to, err := parseRedisURL(c.URL)
	if err != nil {
		return nil, err
	}
	if c.Timeout < 0 {
		return nil, errors.New("redis: the timeout is negative")
	}
	if strings.ContainsAny(c.Prefix, "{}") {
		return nil, errors.New("redis: the prefix is put in braces: it can have none of its own")
	}
	if c.Timeout == 0 {
		c.Timeout = DefaultRedisTimeout
	}
	if c.Prefix == "" {
		c.Prefix = DefaultRedisPrefix
	}
	if to.secure {
		to.tls = &tls.Config{MinVersion: tls.VersionTLS12}
		if c.TLS != nil {
			to.tls = c.TLS.Clone()
		}
	}
	s := &RedisStore{to: to, timeout: c.Timeout, prefix: "{" + c.Prefix + "}:", dial: (&net.Dialer{}).DialContext}
	// Numbers of calls begin anywhere, so that those of two processes behind one balancing proxy do not meet. Doubles hold them.
	s.number.Store(rand.Int64N(1 << 51)) //nolint:gosec // no secret: it tells one call's reply from another's
	s.pool = &redis.Pool{
		DialContext:         s.connect,
		TestOnBorrowContext: s.usable,
		MaxIdle:             redisConns,
		MaxActive:           redisConns,
		IdleTimeout:         redisIdle,
		Wait:                true,
	}
	return s, nil
}

// Take implements [Store]: it charges all buckets if all admit their cost, else none. Their keys must differ.
func (s *RedisStore) Take(ctx context.Context, b []Bucket) (ok bool, err error) {
	return s.run(ctx, true, b)
}

// Add implements [Store]: it charges whatever the buckets hold. A refund fills a bucket up to its size at most.
func (s *RedisStore) Add(ctx context.Context, b []Bucket) error {
	_, err := s.run(ctx, false, b)
	return err
}

// Ping implements [Store]: it says whether a decision could be made now, by charging a bucket that nobody asks. A PING would be
// answered by a replica, too, and by a server that is out of memory.
func (s *RedisStore) Ping(ctx context.Context) error {
	return s.Add(ctx, []Bucket{{Key: "ping", Rate: Rate{Events: 1, Per: time.Millisecond, Burst: 1}, Cost: 1}})
}

// Close closes all connections; those of calls that run are closed when these are done. It implements [Store].
func (s *RedisStore) Close() error {
	return s.pool.Close()
}

// run makes one call, from the wait for a connection to the reply, within the timeout.
func (s *RedisStore) run(ctx context.Context, decide bool, b []Bucket) (ok bool, err error) {
	if len(b) == 0 {
		return true, nil
	}
	if len(b) > redisBuckets {
		return false, fmt.Errorf("redis: %d buckets in a call: there is room for %d", len(b), redisBuckets)
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	call := redisCall{number: s.number.Add(1), decide: decide, prefix: s.prefix, buckets: b}
	ask := ""
	for range redisHops {
		err = s.once(ctx, &call, ask)
		var moved bool
		if ask, moved = s.redirected(err); !moved {
			break
		}
	}
	if redisCode(err) != "" {
		return false, errRedisRefused{err}
	}
	if err != nil {
		return false, fmt.Errorf("redis: %w", err)
	}
	return call.ok, nil
}

// once makes the call on a connection from the pool; or on one of its own, if a cluster that is moving the slot said whom to ask.
func (s *RedisStore) once(ctx context.Context, call *redisCall, ask string) error {
	var conn redis.Conn
	var err error
	if ask == "" {
		conn, err = s.pool.GetContext(ctx)
	} else {
		conn, err = s.connectTo(ctx, ask)
	}
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // nothing is pending: either the reply was read, or it is closed already
	if ask != "" {
		if _, err := redisDo(ctx, conn, "ASKING"); err != nil {
			return err
		}
	}
	_, err = redisDo(ctx, conn, "EVALSHA", call)
	if redisCode(err) == "NOSCRIPT" { // it did not run: the server is new, or was flushed
		if ask != "" {
			if _, err := redisDo(ctx, conn, "ASKING"); err != nil {
				return err
			}
		}
		_, err = redisDo(ctx, conn, "EVAL", call)
	}
	return err
}

// redirected reports whether a node of a cluster said, instead of running the script, who has the slot: for good, which is
// remembered, or for this call, which is ask. Nothing was charged.
func (s *RedisStore) redirected(err error) (ask string, moved bool) {
	var reply redis.Error
	if !errors.As(err, &reply) {
		return "", false
	}
	word := strings.Fields(string(reply)) // "MOVED 3999 127.0.0.1:6381"
	if len(word) < 3 || word[0] != "MOVED" && word[0] != "ASK" {
		return "", false
	}
	address := word[2]
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "?" || s.to.network != "tcp" {
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

// address returns where to dial.
func (s *RedisStore) address() string {
	if node := s.node.Load(); node != nil {
		return *node
	}
	return s.to.address
}

// redisKey appends the name of a bucket as a key.
func redisKey(prefix, name string) string {
	if len(name) > redisKeyLimit {
		sum := sha256.Sum256([]byte(name))
		name = "sha256:" + hex.EncodeToString(sum[:])
	}
	return prefix + name
}

// redisCost is what n events cost, in nanoseconds, a refund's negative, and at most redisMost.
func redisCost(r Rate, n int64) int64 {
	if n < 0 {
		return -redisCost(r, -max(n, -math.MaxInt64))
	}
	return int64(min(r.cost(n), redisMost))
}

// redisTarget is what a URL says.
type redisTarget struct {
	network, address string
	user, password   string
	db               int
	secure           bool
	tls              *tls.Config // if secure
}

// parseRedisURL reads a URL; its errors repeat nothing of it.
func parseRedisURL(text string) (t redisTarget, err error) {
	u, err := url.Parse(text)
	if err != nil {
		// The error of url.Parse holds the text.
		return t, errors.New("redis: this is not a URL: write redis://[user:password@]host:port/db, with special characters of the password as %XX")
	}
	db := strings.TrimPrefix(u.Path, "/")
	switch u.Scheme {
	case "redis", "rediss":
		if u.Hostname() == "" {
			return t, errors.New("redis: the URL has no host: write redis://host:port")
		}
		port := u.Port()
		if port == "" {
			port = "6379"
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return t, errors.New("redis: the port in the URL is not one")
		}
		t.network, t.address, t.secure = "tcp", net.JoinHostPort(u.Hostname(), port), u.Scheme == "rediss"
		if u.RawQuery != "" || u.ForceQuery {
			return t, errors.New("redis: the URL has a query, which means nothing here; a ? in a password is written %3F")
		}
	case "unix":
		if u.Host != "" || !strings.HasPrefix(u.Path, "/") || db == "" {
			return t, errors.New("redis: the URL has no absolute path of a socket: write unix:///run/redis.sock")
		}
		t.network, t.address = "unix", u.Path
		query, err := url.ParseQuery(u.RawQuery)
		if err != nil || len(query) > 1 || len(query) == 1 && len(query["db"]) != 1 {
			return t, errors.New("redis: all that the query of a unix:// URL can say is ?db=n")
		}
		db = query.Get("db")
	default:
		return t, errors.New("redis: the URL must begin with redis://, rediss:// or unix://")
	}
	if u.Opaque != "" || u.Fragment != "" || strings.HasSuffix(text, "#") {
		return t, errors.New("redis: the URL has a fragment, which means nothing here; a # in a password is written %23")
	}
	if u.User != nil {
		var set bool
		t.user = u.User.Username()
		if t.password, set = u.User.Password(); !set || t.password == "" {
			return t, errors.New("redis: the URL has a user but no password: write redis://user:password@host, or redis://:password@host")
		}
	}
	if db != "" {
		if t.db, err = strconv.Atoi(db); err != nil || t.db < 0 {
			return t, errors.New("redis: the database in the URL is not a number; a / in a password is written %2F")
		}
	}
	return t, nil
}

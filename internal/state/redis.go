package state

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gomodule/redigo/redis"
)

// RedisConfig says where a Redis is.
type RedisConfig struct {
	// URL is redis://[[user]:password@]host[:port][/db], rediss:// for TLS, or unix://[[user]:password@]/path[?db=n].
	URL string
	// Timeout bounds a whole call, with the wait for a connection and its dialling. Zero: 2 s.
	Timeout time.Duration
	// Prefix names the hash tag of all keys. Those who share conversations share it. Empty: dragoman-state.
	Prefix string
}

const (
	redisConns = 64              // connections at most
	redisIdle  = 4 * time.Minute // until an unused one is closed
	redisAsk   = 5 * time.Second // one that was unused for as long is asked whether it still works
)

// Redis keeps conversations in a Redis, which replicas of the proxy share: what one has saved all others read.
//
// Every call is one round trip of one script, which Redis runs as a whole and by its own clock. A call that fails or takes longer than
// the timeout is not tried again: nobody knows whether it was made, and its connection is closed, so that a late
// reply reaches nobody. While Redis is gone calls fail, each within its timeout, and dialling begins anew with each; when it is
// back, what it holds is what there is: a server that forgot everything has no conversations. What Save has acknowledged outlives
// the processes of the proxy, and Redis as far as that is set up to (appendonly). It needs Redis 5 or newer, and one
// that throws nothing away by itself (maxmemory-policy noeviction): a conversation of which it dropped a part is not found.
//
// Conversations go when they were not used for the TTL. The bytes of those are given back with the changes that follow, a
// hundred at a time.
type Redis struct {
	limits  Limits
	timeout time.Duration
	prefix  string
	pool    *redis.Pool
	closed  atomic.Bool
	now     func() time.Duration // how far the clock of a test is ahead of Redis'

	mu    sync.Mutex
	stats Stats
}

var _ Store = (*Redis)(nil)

// NewRedis returns a store that dials when it is first used. The errors are of the configuration alone, and repeat nothing of the
// URL, which may hold a password.
func NewRedis(c RedisConfig, l Limits) (*Redis, error) {
	u, err := url.Parse(c.URL)
	if err != nil || u.Scheme != "redis" && u.Scheme != "rediss" && u.Scheme != "unix" {
		return nil, errors.New("redis: this is no URL of the form redis://[user:password@]host:port/db")
	}
	if c.Timeout <= 0 {
		c.Timeout = 2 * time.Second
	}
	if c.Prefix == "" {
		c.Prefix = "dragoman-state"
	}
	s := &Redis{limits: l, timeout: c.Timeout, prefix: "{" + c.Prefix + "}:", now: func() time.Duration { return 0 }}
	options := []redis.DialOption{
		redis.DialConnectTimeout(c.Timeout), redis.DialReadTimeout(c.Timeout), redis.DialWriteTimeout(c.Timeout),
		redis.DialTLSConfig(&tls.Config{MinVersion: tls.VersionTLS12}),
	}
	dial := func(ctx context.Context) (redis.Conn, error) { return redis.DialURLContext(ctx, c.URL, options...) }
	if u.Scheme == "unix" {
		if password, ok := u.User.Password(); ok {
			options = append(options, redis.DialPassword(password), redis.DialUsername(u.User.Username()))
		}
		if db, err := strconv.Atoi(u.Query().Get("db")); err == nil {
			options = append(options, redis.DialDatabase(db))
		}
		dial = func(ctx context.Context) (redis.Conn, error) {
			return redis.DialContext(ctx, "unix", u.Path, options...)
		}
	}
	s.pool = &redis.Pool{
		DialContext: dial,
		TestOnBorrowContext: func(ctx context.Context, conn redis.Conn, used time.Time) error {
			if time.Since(used) < redisAsk {
				return nil
			}
			_, err := redis.DoContext(conn, ctx, "PING")
			return err
		},
		MaxIdle: redisConns, MaxActive: redisConns, IdleTimeout: redisIdle, Wait: true,
	}
	return s, nil
}

// redisHead is what all scripts begin with: the clock, the names of keys, and how a conversation goes.
//
// Under the prefix are: c:owner:conv:t and :o, hashes of its turns and objects; s:owner, a hash of the sizes of its conversations; z:owner, a
// sorted set of when each was used last; z, the same of all owners; owners, a hash of what each has; total, a hash of
// what all have.
const redisHead = `local P, i = KEYS[1], 0
local function arg() i = i + 1 return ARGV[i] end
local function num() return tonumber(arg()) end
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000) + num()
local o, ttl = arg(), num()
local function data(w, c, k) return P .. 'c:' .. w .. ':' .. c .. ':' .. k end
local function fresh(c)
  local used = redis.call('ZSCORE', P .. 'z:' .. o, c)
  return used and (ttl == 0 or tonumber(used) > now - ttl)
end
local function use(c)
  redis.call('ZADD', P .. 'z:' .. o, now, c)
  redis.call('ZADD', P .. 'z', now, o .. '/' .. c)
  if ttl > 0 then
    redis.call('PEXPIRE', data(o, c, 't'), ttl)
    redis.call('PEXPIRE', data(o, c, 'o'), ttl)
  end
end
local function grow(w, c, n)
  if n == 0 then return end
  redis.call('HINCRBY', P .. 's:' .. w, c, n)
  if redis.call('HINCRBY', P .. 'owners', w, n) <= 0 then redis.call('HDEL', P .. 'owners', w) end
  redis.call('HINCRBY', P .. 'total', 'bytes', n)
end
local function size(w, c) return tonumber(redis.call('HGET', P .. 's:' .. w, c) or '0') end
local function drop(w, c)
  redis.call('DEL', data(w, c, 't'), data(w, c, 'o'))
  grow(w, c, -size(w, c))
  redis.call('HDEL', P .. 's:' .. w, c)
  redis.call('ZREM', P .. 'z:' .. w, c)
  if redis.call('ZREM', P .. 'z', w .. '/' .. c) == 1 then redis.call('HINCRBY', P .. 'total', 'convs', -1) end
end
`

var redisRead = redis.NewScript(1, redisHead+`local reply = {}
for _ = 1, num() do
  local c = arg()
  local t = {}
  if fresh(c) then
    t = redis.call('HGETALL', data(o, c, 't'))
    use(c)
  end
  reply[#reply + 1] = t
end
for _ = 1, num() do
  local c, k, n = arg(), arg(), arg()
  local v = false
  if fresh(c) then
    v = redis.call('HGET', data(o, c, k), n)
    if v then use(c) end
  end
  reply[#reply + 1] = v
end
return reply
`)

var redisSave = redis.NewScript(1, redisHead+`local most, mine, one, over = num(), num(), num(), num()
local expired, own, all = 0, 0, 0
if ttl > 0 then
  for _, m in ipairs(redis.call('ZRANGEBYSCORE', P .. 'z', '-inf', now - ttl, 'LIMIT', 0, 100)) do
    local at = string.find(m, '/', 1, true)
    drop(string.sub(m, 1, at - 1), string.sub(m, at + 1))
    expired = expired + 1
  end
end
local function result(word)
  local t = redis.call('HMGET', P .. 'total', 'convs', 'bytes')
  return {word, expired, own, all, tonumber(t[1] or '0'), tonumber(t[2] or '0')}
end
for _ = 1, num() do
  local c, k, n = arg(), arg(), arg()
  if not fresh(c) or redis.call('HEXISTS', data(o, c, k), n) == 0 then return result('gone') end
end
local sizes, entries, whole, order = {}, {}, {}, {}
local function of(c)
  if not sizes[c] then
    if not fresh(c) then drop(o, c) end
    sizes[c] = size(o, c)
    order[#order + 1] = c
  end
  return sizes[c]
end
local function was(c, k, n)
  local id = c .. '/' .. k .. n
  if entries[id] then return entries[id] end
  if whole[c] then return 0 end
  of(c)
  if redis.call('HEXISTS', data(o, c, k), n) == 0 then return 0 end
  return #c + #n + redis.call('HSTRLEN', data(o, c, k), n) + over
end
local from = i
local removes = num()
for _ = 1, removes do
  local c, k, n = arg(), arg(), arg()
  of(c)
  if n == '' then
    sizes[c], whole[c] = 0, true
    for id in pairs(entries) do
      if string.sub(id, 1, #c + 1) == c .. '/' then entries[id] = 0 end
    end
  else
    sizes[c] = sizes[c] - was(c, k, n)
    entries[c .. '/' .. k .. n] = 0
  end
end
local puts = num()
for _ = 1, puts do
  local c, k, n, v = arg(), arg(), arg(), arg()
  local b = #c + #n + #v + over
  sizes[c] = of(c) + b - was(c, k, n)
  entries[c .. '/' .. k .. n] = b
end
local sum = 0
for _, c in ipairs(order) do
  if one > 0 and sizes[c] > one then return result('large') end
  sum = sum + sizes[c]
end
if mine > 0 and sum > mine or most > 0 and sum > most then return result('large') end
i = from + 1
for _ = 1, removes do
  local c, k, n = arg(), arg(), arg()
  if n == '' then redis.call('DEL', data(o, c, 't'), data(o, c, 'o')) else redis.call('HDEL', data(o, c, k), n) end
end
i = i + 1
for _ = 1, puts do
  local c, k, n, v = arg(), arg(), arg(), arg()
  redis.call('HSET', data(o, c, k), n, v)
end
for _, c in ipairs(order) do
  if sizes[c] == 0 then
    drop(o, c)
  else
    if not redis.call('ZSCORE', P .. 'z', o .. '/' .. c) then redis.call('HINCRBY', P .. 'total', 'convs', 1) end
    grow(o, c, sizes[c] - size(o, c))
    use(c)
  end
end
local function room(zset, least, has)
  local at = 0
  while has() > least do
    local m = redis.call('ZRANGE', zset, at, at)[1]
    if not m then return end
    local w, c = o, m
    if zset == P .. 'z' then
      local cut = string.find(m, '/', 1, true)
      w, c = string.sub(m, 1, cut - 1), string.sub(m, cut + 1)
    end
    if w == o and sizes[c] then
      at = at + 1
    else
      drop(w, c)
      if zset == P .. 'z' then all = all + 1 else own = own + 1 end
    end
  end
end
if mine > 0 then room(P .. 'z:' .. o, mine, function() return tonumber(redis.call('HGET', P .. 'owners', o) or '0') end) end
if most > 0 then room(P .. 'z', most, function() return tonumber(redis.call('HGET', P .. 'total', 'bytes') or '0') end) end
return result('ok')
`)

var redisLease = redis.NewScript(1, redisHead+`local key, what, holder, time = P .. 'l:' .. o .. ':' .. arg(), arg(), arg(), num()
local has, till = redis.call('GET', key), 0
if has then
  local at = string.find(has, ' ', 1, true)
  till, has = tonumber(string.sub(has, 1, at - 1)), string.sub(has, at + 1)
  if till <= now then has = false end
end
if what == 'ask' then return has or '' end
if what == 'give' then
  if has == holder then redis.call('DEL', key) end
  return ''
end
if has and has ~= holder then return '' end
redis.call('SET', key, string.format('%.0f', now + time) .. ' ' .. holder, 'PX', time)
return holder
`)

// do runs a script.
func (s *Redis) do(ctx context.Context, script *redis.Script, owner string, args ...any) (any, error) {
	if s.closed.Load() {
		return nil, ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ctx, stop := context.WithTimeout(ctx, s.timeout)
	defer stop()
	conn, err := s.pool.GetContext(ctx)
	if err != nil {
		return nil, s.failed(err)
	}
	defer conn.Close() //nolint:errcheck // one that failed is closed by the pool
	all := append([]any{s.prefix, s.now().Milliseconds(), hashOwner(owner), s.limits.TTL.Milliseconds()}, args...)
	reply, err := script.DoContext(ctx, conn, all...)
	if err != nil {
		return nil, s.failed(err)
	}
	return reply, nil
}

// failed is an error without what the server may have repeated of our arguments.
func (s *Redis) failed(err error) error {
	if s.closed.Load() {
		return ErrClosed
	}
	if said, ok := errors.AsType[redis.Error](err); ok {
		word, _, _ := strings.Cut(string(said), " ")
		if len(word) > 20 || strings.Trim(word, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
			word = "ERR"
		}
		return fmt.Errorf("redis refused: %s", word)
	}
	return fmt.Errorf("redis: %w", err)
}

var errRedisReply = errors.New("redis: the reply makes no sense")

// Read implements [Store].
func (s *Redis) Read(ctx context.Context, owner string, r Read) (Found, error) {
	none := Found{Turns: make([][]Entry, len(r.Convs)), Values: make([][]byte, len(r.Refs))}
	args := make([]any, 0, 2+len(r.Convs)+3*len(r.Refs))
	args = append(args, len(r.Convs))
	for _, conv := range r.Convs {
		args = append(args, conv)
	}
	args = append(args, len(r.Refs))
	for _, ref := range r.Refs {
		args = append(args, ref.Conv, string(rune(ref.Kind)), ref.Name)
	}
	reply, err := redis.Values(s.do(ctx, redisRead, owner, args...))
	if err != nil {
		return none, err
	}
	if len(reply) != len(r.Convs)+len(r.Refs) {
		return none, errRedisReply
	}
	found := Found{Turns: make([][]Entry, len(r.Convs)), Values: make([][]byte, len(r.Refs))}
	for i, conv := range r.Convs {
		pairs, err := redis.ByteSlices(reply[i], nil)
		if err != nil || len(pairs)%2 != 0 {
			return none, errRedisReply
		}
		for j := 0; j < len(pairs); j += 2 {
			found.Turns[i] = append(found.Turns[i], Entry{Ref{conv, Turn, string(pairs[j])}, pairs[j+1]})
		}
		sortEntries(found.Turns[i])
	}
	for i := range r.Refs {
		if v := reply[len(r.Convs)+i]; v != nil {
			b, ok := v.([]byte)
			if !ok {
				return none, errRedisReply
			}
			found.Values[i] = b
		}
	}
	return found, nil
}

// Save implements [Store].
func (s *Redis) Save(ctx context.Context, owner string, c Change) error {
	if err := c.check(); err != nil {
		return err
	}
	args := []any{s.limits.MaxBytes, s.limits.MaxOwnerBytes, s.limits.MaxConversationBytes, EntryOverhead}
	refs := func(all []Ref) {
		args = append(args, len(all))
		for _, r := range all {
			args = append(args, r.Conv, string(rune(r.Kind)), r.Name)
		}
	}
	refs(c.Need)
	refs(c.Remove)
	args = append(args, len(c.Put))
	for _, e := range c.Put {
		args = append(args, e.Conv, string(rune(e.Kind)), e.Name, e.Value)
	}
	reply, err := redis.Values(s.do(ctx, redisSave, owner, args...))
	if err != nil {
		return err
	}
	var word string
	var expired, own, all, convs, bytes int64
	if _, err := redis.Scan(reply, &word, &expired, &own, &all, &convs, &bytes); err != nil {
		return errRedisReply
	}
	s.mu.Lock()
	s.stats.Expired += expired
	s.stats.EvictedOwner += own
	s.stats.EvictedTotal += all
	s.stats.Conversations, s.stats.Bytes = convs, bytes
	s.mu.Unlock()
	switch word {
	case "ok":
		return nil
	case "gone":
		return ErrGone
	case "large":
		return ErrTooLarge
	}
	return errRedisReply
}

// Lease implements [Store].
func (s *Redis) Lease(ctx context.Context, owner, name, holder string, ttl time.Duration) (bool, error) {
	got, err := redis.String(s.do(ctx, redisLease, owner, name, "take", holder, max(ttl.Milliseconds(), 1)))
	return err == nil && got == holder, err
}

// Leased implements [Store].
func (s *Redis) Leased(ctx context.Context, owner, name string) (string, error) {
	return redis.String(s.do(ctx, redisLease, owner, name, "ask", "", 0))
}

// Release implements [Store].
func (s *Redis) Release(ctx context.Context, owner, name, holder string) error {
	_, err := s.do(ctx, redisLease, owner, name, "give", holder, 0)
	return err
}

// Stats implements [Store].
func (s *Redis) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// Ping implements [Store]: by a script, because a replica, and a server that is out of memory, would answer a PING.
func (s *Redis) Ping(ctx context.Context) error {
	ok, err := s.Lease(ctx, "", "ping", "ping", time.Second)
	if err == nil && !ok {
		return errRedisReply
	}
	return err
}

// Close implements [Store].
func (s *Redis) Close() error {
	s.closed.Store(true)
	return s.pool.Close()
}

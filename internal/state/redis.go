package state

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
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
// reply reaches nobody; every reply bears the number of its call, too. One that is larger than the limits allow is refused before there is
// room for it. A cluster's redirections are followed. While Redis is gone calls fail, each within its timeout, and dialling begins anew with each; when it is
// back, what it holds is what there is: a server that forgot everything has no conversations. While it is out of memory it is read
// and nothing new is saved. What Save has acknowledged outlives
// the processes of the proxy, and Redis as far as that is set up to (appendonly). It needs Redis 5 or newer, and one
// that throws nothing away by itself (maxmemory-policy noeviction): a conversation of which it dropped a part is not found.
//
// Conversations go when they were not used for the TTL. The bytes of those are given back with the changes that follow, a
// hundred at a time. Those that make room for a change go with it, two hundred in a call.
type Redis struct {
	limits  Limits
	to      redisTarget
	timeout time.Duration
	prefix  string // "{…}:"
	pool    *redis.Pool
	closed  atomic.Bool
	now     func() time.Duration // how far the clock of a test is ahead of Redis'

	node     atomic.Pointer[string] // where the slot is, as the cluster's latest redirection had it; nil: where the URL says
	failedAt atomic.Int64           // when a connection failed last, Unix nanoseconds: those that idled since are not trusted
	number   atomic.Int64           // of the latest call

	mu    sync.Mutex
	stats Stats
}

var _ Store = (*Redis)(nil)

// NewRedis returns a store that dials when it is first used. The errors are of the configuration alone, and repeat nothing of the
// URL, which may hold a password.
func NewRedis(c RedisConfig, l Limits) (*Redis, error) {
	to, err := parseRedisURL(c.URL)
	if err != nil {
		return nil, err
	}
	if c.Timeout <= 0 {
		c.Timeout = 2 * time.Second
	}
	if c.Prefix == "" {
		c.Prefix = "dragoman-state"
	}
	s := &Redis{limits: l, to: to, timeout: c.Timeout, prefix: "{" + c.Prefix + "}:", now: func() time.Duration { return 0 }}
	// Numbers of calls begin anywhere, so that those of two processes behind one balancing proxy do not meet.
	s.number.Store(rand.Int64N(1 << 51)) //nolint:gosec // no secret: it tells one call's reply from another's
	s.pool = &redis.Pool{
		DialContext: s.connect, TestOnBorrowContext: s.usable, MaxIdle: redisConns, MaxActive: redisConns, IdleTimeout: redisIdle, Wait: true,
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
local call = arg()
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000) + num()
local o, ttl = arg(), num()
local function data(w, c, k) return P .. 'c:' .. w .. ':' .. c .. ':' .. k end
local function fresh(c)
  local used = redis.call('ZSCORE', P .. 'z:' .. o, c)
  return used and (ttl == 0 or tonumber(used) > now - ttl)
end
local function use(c, how)
  how('ZADD', P .. 'z:' .. o, now, c)
  how('ZADD', P .. 'z', now, o .. '/' .. c)
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

// In reading it does not matter if the use of a conversation cannot be noted because the server is out of memory.
var redisRead = newRedisScript(redisHead + `local reply = {call}
for _ = 1, num() do
  local c = arg()
  local t = {}
  if fresh(c) then
    t = redis.call('HGETALL', data(o, c, 't'))
    use(c, redis.pcall)
  end
  reply[#reply + 1] = t
end
for _ = 1, num() do
  local c, k, n = arg(), arg(), arg()
  local v = false
  if fresh(c) then
    v = redis.call('HGET', data(o, c, k), n)
    if v then use(c, redis.pcall) end
  end
  reply[#reply + 1] = v
end
return reply
`)

// The first thing that a change of a new conversation writes is a value: a server that is out of memory refuses a script's first write
// alone, and must not be made to forget that by the removal of nothing.
var redisSave = newRedisScript(redisHead + `local most, mine, one, over = num(), num(), num(), num()
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
  return {call, word, expired, own, all, tonumber(t[1] or '0'), tonumber(t[2] or '0')}
end
for _ = 1, num() do
  local c, k, n = arg(), arg(), arg()
  if not fresh(c) or redis.call('HEXISTS', data(o, c, k), n) == 0 then return result('gone') end
end
local sizes, entries, whole, order = {}, {}, {}, {}
local function of(c)
  if not sizes[c] then
    if redis.call('ZSCORE', P .. 'z:' .. o, c) and not fresh(c) then
      drop(o, c)
      expired = expired + 1
    end
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
    use(c, redis.call)
  end
end
local function room(zset, least, has)
  local at = 0
  while has() > least do
    if own + all >= 200 then return true end
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
local more = mine > 0 and room(P .. 'z:' .. o, mine, function() return tonumber(redis.call('HGET', P .. 'owners', o) or '0') end)
more = more or most > 0 and room(P .. 'z', most, function() return tonumber(redis.call('HGET', P .. 'total', 'bytes') or '0') end)
return result(more and 'more' or 'ok')
`)

var redisLease = newRedisScript(redisHead + `local key, what, holder, time = P .. 'l:' .. o .. ':' .. arg(), arg(), arg(), num()
local has, till = redis.call('GET', key), 0
if has then
  local at = string.find(has, ' ', 1, true)
  till, has = tonumber(string.sub(has, 1, at - 1)), string.sub(has, at + 1)
  if till <= now then has = false end
end
if what == 'ask' then return {call, has or ''} end
if what == 'give' then
  if has == holder then redis.call('DEL', key) end
  return {call, ''}
end
if has and has ~= holder then return {call, ''} end
redis.call('SET', key, string.format('%.0f', now + time) .. ' ' .. holder, 'PX', time)
return {call, holder}
`)

// redisScript is a script and the name under which a server knows it that has run it.
type redisScript struct{ text, hash string }

func newRedisScript(text string) redisScript {
	return redisScript{text, redis.NewScript(1, text).Hash()}
}

// do runs a script, whose reply has so many bytes and lists at most. It returns the reply without the number of the call.
func (s *Redis) do(ctx context.Context, script redisScript, owner string, room int64, lists int, args ...any) ([]any, error) {
	if s.closed.Load() {
		return nil, ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ctx, stop := context.WithTimeout(ctx, s.timeout)
	defer stop()
	call := redisCall{number: strconv.FormatInt(s.number.Add(1), 10), bytes: room, lists: lists}
	all := append([]any{s.now().Milliseconds(), hashOwner(owner), s.limits.TTL.Milliseconds()}, args...)
	var reply any
	var err error
	ask := ""
	for range redisHops {
		reply, err = s.once(ctx, script, call, ask, all)
		var moved bool
		if ask, moved = s.redirected(err); !moved {
			break
		}
	}
	if err != nil {
		return nil, s.failed(err)
	}
	return redis.Values(reply, nil)
}

// failed is an error without what the server may have repeated of our arguments.
func (s *Redis) failed(err error) error {
	if s.closed.Load() {
		return ErrClosed
	}
	if word := redisWord(err); word != "" {
		return redisRefusal(word)
	}
	if errors.Is(err, errRedisReply) || errors.Is(err, errRedisLarge) {
		return err
	}
	return fmt.Errorf("redis: %w", err)
}

// readRoom is what a reply with some conversations or entries has at most. What an entry counts is more than what it is sent with.
func (s *Redis) readRoom(items int) int64 {
	most := int64(1 << 30) // without a limit: the largest that can be configured
	for _, l := range [...]int64{s.limits.MaxConversationBytes, s.limits.MaxOwnerBytes, s.limits.MaxBytes} {
		if l > 0 {
			most = min(most, l)
		}
	}
	return redisSmall + int64(items)*(most+EntryOverhead)
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
	items := len(r.Convs) + len(r.Refs)
	reply, err := s.do(ctx, redisRead, owner, s.readRoom(items), 1+len(r.Convs), args...)
	if err != nil {
		return none, err
	}
	if len(reply) != items {
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
	word, err := s.change(ctx, owner, c)
	if err != nil {
		return err
	}
	// The change is made. So that Redis is nobody's alone for long, a call makes only some of the room that it needs; what a
	// call that fails leaves of it, the next change makes.
	for word == "more" && err == nil {
		word, err = s.change(ctx, owner, Change{})
	}
	switch word {
	case "gone":
		return ErrGone
	case "large":
		return ErrTooLarge
	}
	return nil
}

// change makes a change, and says what became of it: ok, gone, large, or more, which is ok with more than there should be.
func (s *Redis) change(ctx context.Context, owner string, c Change) (word string, err error) {
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
	reply, err := s.do(ctx, redisSave, owner, redisSmall, 1, args...)
	if err != nil {
		return "", err
	}
	var expired, own, all, convs, bytes int64
	if _, err := redis.Scan(reply, &word, &expired, &own, &all, &convs, &bytes); err != nil {
		return "", errRedisReply
	}
	s.mu.Lock()
	s.stats.Expired += expired
	s.stats.EvictedOwner += own
	s.stats.EvictedTotal += all
	s.stats.Conversations, s.stats.Bytes = convs, bytes
	s.mu.Unlock()
	switch word {
	case "ok", "more", "gone", "large":
		return word, nil
	}
	return "", errRedisReply
}

// Lease implements [Store].
func (s *Redis) Lease(ctx context.Context, owner, name, holder string, ttl time.Duration) (bool, error) {
	got, err := s.lease(ctx, owner, name, "take", holder, max(ttl.Milliseconds(), 1))
	return err == nil && got == holder, err
}

// Leased implements [Store].
func (s *Redis) Leased(ctx context.Context, owner, name string) (string, error) {
	return s.lease(ctx, owner, name, "ask", "", 0)
}

// Release implements [Store].
func (s *Redis) Release(ctx context.Context, owner, name, holder string) error {
	_, err := s.lease(ctx, owner, name, "give", holder, 0)
	return err
}

// lease returns who has it.
func (s *Redis) lease(ctx context.Context, owner, name, what, holder string, ms int64) (string, error) {
	reply, err := s.do(ctx, redisLease, owner, redisSmall, 1, name, what, holder, ms)
	if err != nil {
		return "", err
	}
	if len(reply) != 1 {
		return "", errRedisReply
	}
	who, ok := reply[0].([]byte)
	if !ok {
		return "", errRedisReply
	}
	return string(who), nil
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

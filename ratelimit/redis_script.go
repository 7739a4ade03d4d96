package ratelimit

import (
	"crypto/sha1" //nolint:gosec // Redis' own choice for the names of scripts, and no defence of anything
	"encoding/hex"
	"errors"
	"strconv"
	"time"
)

// redisMost is the longest that a bucket can need to be full again, in nanoseconds: 52 days. A larger debt is forgiven. It is half of
// what a double holds exactly, so that no sum of two is rounded.
const redisMost = 1 << 52

// redisScript is the rule of the package over any number of buckets, all or none.
//
// A bucket is one number, the time at which it is full again, in nanoseconds since 1970 and in decimal: 19 digits. Lua's only
// numbers are doubles, which hold integers up to 2^53 exactly: nanoseconds since 1970 are 200 times more than that, and
// microseconds, which Redis' clock has, would lose what a token costs where there are 1000000000 a minute (60 ns), or round
// every charge. So the last three digits are read and written on their own: microseconds since 1970 are exact until 2255, and
// differences in nanoseconds up to 52 days.
//
// A value goes when its bucket is full, ten milliseconds later, because Redis' expiry counts in milliseconds of a clock that it reads
// before the script does. What is no such number counts as no value. TIME before a write needs the replication of
// effects, which is Redis' default since version 5.
const redisScript = `local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local most = 4503599627370496
local held = redis.call('MGET', unpack(KEYS))
local decide, ok = ARGV[2] == '1', 1
local full, fits = {}, {}
for i = 1, #KEYS do
  local cost, room, value, rest = tonumber(ARGV[2 * i + 1]), tonumber(ARGV[2 * i + 2]), held[i], 0
  if value and #value < 20 and string.find(value, '^%d%d%d%d+$') then
    rest = (tonumber(string.sub(value, 1, -4)) - now) * 1000 + tonumber(string.sub(value, -3))
    rest = math.min(math.max(rest, 0), most)
  end
  full[i], fits[i] = rest, 1
  if rest + cost > room and (cost <= room or rest > 0) then
    fits[i] = 0
    if decide then ok = 0 end
  end
end
local reply = {tonumber(ARGV[1]), ok}
for i = 1, #KEYS do
  local cost, rest = tonumber(ARGV[2 * i + 1]), full[i]
  if ok == 1 and cost ~= 0 then
    rest = math.min(math.max(rest + cost, 0), most)
    if rest > 0 then
      local ns = math.fmod(rest, 1000)
      redis.call('SET', KEYS[i], string.format('%.0f%03d', now + (rest - ns) / 1000, ns),
        'PX', string.format('%.0f', math.ceil(rest / 1000000) + 10))
    else
      redis.call('DEL', KEYS[i])
    end
  end
  reply[2 * i + 1], reply[2 * i + 2] = rest, fits[i]
end
return reply
`

// redisScriptHash is the name that Redis gives the script.
var redisScriptHash = func() string {
	sum := sha1.Sum([]byte(redisScript)) //nolint:gosec // as above
	return hex.EncodeToString(sum[:])
}()

// redisCall is one run of the script.
type redisCall struct {
	number  int64 // which the reply repeats
	decide  bool
	prefix  string
	buckets []Bucket
	ok      bool // what the script said
}

// args returns what follows EVALSHA or EVAL.
func (c *redisCall) args(script string) []any {
	args := make([]any, 0, 4+3*len(c.buckets))
	args = append(args, script, len(c.buckets))
	for i := range c.buckets {
		args = append(args, redisKey(c.prefix, c.buckets[i].Key))
	}
	decide := "0"
	if c.decide {
		decide = "1"
	}
	args = append(args, c.number, decide)
	for i := range c.buckets {
		b := &c.buckets[i]
		args = append(args, redisCost(b.Rate, b.Cost), int64(min(b.Rate.capacity(), redisMost)))
	}
	return args
}

var errRedisReply = errors.New("the reply is not this call's")

// read takes the reply, or says why it is none; then the buckets are as they were.
func (c *redisCall) read(reply any) error {
	list, ok := reply.([]any)
	if !ok || len(list) != 2+2*len(c.buckets) {
		return errRedisReply
	}
	for _, v := range list {
		if _, ok := v.(int64); !ok {
			return errRedisReply
		}
	}
	if list[0] != c.number {
		return errRedisReply
	}
	c.ok = list[1] == int64(1)
	for i := range c.buckets {
		b := &c.buckets[i]
		b.Full = time.Duration(list[2+2*i].(int64))
		b.OK = list[3+2*i] == int64(1)
	}
	return nil
}

// String keeps the names of callers out of whatever prints a command.
func (c *redisCall) String() string {
	return "call " + strconv.FormatInt(c.number, 10)
}

package translate

import (
	"strconv"
	"time"
)

var _ LimitsFace = swarmsFace{}

// swarmsUnlimited stands where nothing is limited: the SDKs' types want a number
// in every place, some of them of 32 bits.
const swarmsUnlimited = 1<<31 - 1

// AppendLimits implements LimitsFace. The tier is the vendor's word for those who
// need not buy a higher limit: there is none to be bought here.
func (swarmsFace) AppendLimits(dst []byte, l Limits) []byte {
	windows := [...]struct {
		name string
		w    LimitWindow
	}{{"minute", l.Minute}, {"hour", l.Hour}, {"day", l.Day}}
	dst = append(dst, `{"success":true,"rate_limits":{`...)
	for i := range windows {
		w := &windows[i].w
		if !w.Limited {
			*w = LimitWindow{Limit: swarmsUnlimited, Remaining: swarmsUnlimited, Reset: l.Now}
		}
		left := min(max(w.Remaining, 0), w.Limit)
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(append(dst, '"'), windows[i].name...), `":{"count":`...)
		dst = strconv.AppendInt(dst, w.Limit-left, 10)
		dst = append(dst, `,"limit":`...)
		dst = strconv.AppendInt(dst, w.Limit, 10)
		dst = append(dst, `,"exceeded":`...)
		dst = strconv.AppendBool(dst, left == 0)
		dst = append(dst, `,"remaining":`...)
		dst = strconv.AppendInt(dst, left, 10)
		dst = append(dst, `,"reset_time":"`...)
		dst = append(appendSwarmsInstant(dst, w.Reset), `"}`...)
	}
	dst = append(dst, `},"limits":{`...)
	for i := range windows {
		dst = append(append(append(dst, `"maximum_requests_per_`...), windows[i].name...), `":`...)
		dst = append(strconv.AppendInt(dst, windows[i].w.Limit, 10), ',')
	}
	tokens := l.Tokens
	if tokens <= 0 {
		tokens = swarmsUnlimited
	}
	dst = append(dst, `"tokens_per_agent":`...)
	dst = strconv.AppendInt(dst, tokens, 10)
	dst = append(dst, `},"tier":"premium","timestamp":"`...)
	return append(appendSwarmsInstant(dst, l.Now), `"}`...)
}

// appendSwarmsInstant appends a time as this route writes it: to the second, with
// a Z. A time between two seconds is the later one, so that nobody comes too
// early.
func appendSwarmsInstant(dst []byte, t time.Time) []byte {
	return t.Add(time.Second-1).UTC().Truncate(time.Second).AppendFormat(dst, time.RFC3339)
}

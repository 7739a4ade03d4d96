package translate

import "time"

// LimitsFace is a Face whose clients can ask what they may still do (OpLimits).
type LimitsFace interface {
	Face
	// AppendLimits writes the answer.
	AppendLimits(dst []byte, l Limits) []byte
}

// Limits is what a caller may do, and how much of it is left.
type Limits struct {
	// Minute, Hour and Day count requests. The zero window is no limit.
	Minute, Hour, Day LimitWindow
	// Tokens is how many tokens a window allows; 0: no limit.
	Tokens int64
	Now    time.Time
}

// LimitWindow is a limit of requests in one unit of time.
type LimitWindow struct {
	Limit     int64     // requests in the window
	Remaining int64     // of them that are left now
	Reset     time.Time // when all of them are there again
	Limited   bool      // false: there is no limit, and the rest does not count
}

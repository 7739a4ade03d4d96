package proxy

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// conversationObject is the entry that makes a conversation one that clients name.
const conversationObject = "conversation"

// convID is the conversation that an id of ours names.
func convID(id string) (conv string, ok bool) {
	conv, ok = strings.CutPrefix(id, "conv_")
	return conv, ok && len(conv) == convSize && isHex(conv)
}

// nextOrdinal names a turn of a conversation whose turns are in order, behind the last one.
func nextOrdinal(last string, now time.Time) string {
	n := uint64(now.UnixMicro()) << 12 //nolint:gosec // positive until the year 2100
	if l, err := strconv.ParseUint(last, 16, 64); err == nil && l >= n {
		n = l + 1
	}
	return fmt.Sprintf("%016x", n)
}

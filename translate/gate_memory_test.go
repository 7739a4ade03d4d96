package translate

import (
	"fmt"
	"runtime"
	"strings"
)

// manyKeys are some n bytes of members with different keys, each followed by a comma.
func manyKeys(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, `"%x":0,`, i)
	}
	return b.String()
}

// allocates is how many bytes a run of f allocates, whoever keeps them.
func allocates(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

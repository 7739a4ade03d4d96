package ratelimit

const (
	bytesPerToken = 4
	mediaTokens   = 1000
	mediaRun      = 2048 // bytes of base64 that are no text any more
)

// EstimateInput is about how many tokens the JSON body of a request costs: one for each four bytes, rounded up, at least 1. A
// run of 2,048 or more characters of base64 or base64url is an image, a sound or a file, and costs 1,000 whatever its
// length; the escapes of JSON for slashes and ends of lines do not break it. It reads a body of text in some samples, and one of base64 at the
// speed of a table.
func EstimateInput(body []byte) int64 {
	text, runs, end := len(body), 0, 0
	// Of a run that is long enough, one of these is no further than half of it from its start: text is looked at here only.
	for i := mediaRun/2 - 1; i < len(body); i += mediaRun / 2 {
		if i < end || base64Bytes[body[i]] == 0 {
			continue
		}
		start := i
		for start > end && base64Bytes[body[start-1]] != 0 {
			start--
		}
		end = endOfRun(body, i)
		if end-start >= mediaRun {
			text -= end - start
			runs++
		}
	}
	return max(int64(text+bytesPerToken-1)/bytesPerToken+int64(runs)*mediaTokens, 1)
}

// endOfRun is where the run of base64 ends that body[i] belongs to.
func endOfRun(body []byte, i int) int {
	for ; i+8 <= len(body); i += 8 {
		b, t := body[i:i+8:i+8], &base64Bytes
		if t[b[0]]&t[b[1]]&t[b[2]]&t[b[3]]&t[b[4]]&t[b[5]]&t[b[6]]&t[b[7]] == 0 { // one branch for eight
			break
		}
	}
	for i < len(body) && base64Bytes[body[i]] != 0 {
		i++
	}
	return i
}

// base64Bytes is 1 for the characters of base64 and base64url, and for the backslash of JSON's escapes.
var base64Bytes = func() (t [256]uint8) {
	for _, c := range []byte(`ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=\`) {
		t[c] = 1
	}
	return t
}()

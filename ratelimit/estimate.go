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
		if i < end || !base64Bytes[body[i]] {
			continue
		}
		start := i
		for start > end && base64Bytes[body[start-1]] {
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
		b := body[i : i+8 : i+8]
		if !(base64Bytes[b[0]] && base64Bytes[b[1]] && base64Bytes[b[2]] && base64Bytes[b[3]] &&
			base64Bytes[b[4]] && base64Bytes[b[5]] && base64Bytes[b[6]] && base64Bytes[b[7]]) {
			break
		}
	}
	for i < len(body) && base64Bytes[body[i]] {
		i++
	}
	return i
}

// base64Bytes are the characters of base64 and base64url, and the backslash of JSON's escapes.
var base64Bytes = func() (t [256]bool) {
	for _, c := range []byte(`ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=\`) {
		t[c] = true
	}
	return t
}()

package ratelimit

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
)

// slowEstimate says what EstimateInput should, byte by byte.
func slowEstimate(body []byte) int64 {
	text, media, run := 0, 0, 0
	end := func() {
		if run >= 2048 {
			media++
		} else {
			text += run
		}
		run = 0
	}
	for _, c := range body {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(`+/-_=\`, c) >= 0 {
			run++
			continue
		}
		end()
		text++
	}
	end()
	return max(int64(text+3)/4+1000*int64(media), 1)
}

func TestTheEstimateOfABody(t *testing.T) {
	t.Parallel()
	image := strings.Repeat("iVBORw0KGgo+/AA=", 1<<16)
	for name, c := range map[string]struct {
		body string
		want int64
	}{
		"nothing":         {"", 1},
		"a byte":          {"1", 1},
		"rounded up":      {"{\"a\":1}", 2},
		"text":            {strings.Repeat("some text ", 400), 1000},
		"one word":        {strings.Repeat("x", 2047), 512},
		"one long word":   {strings.Repeat("x", 2048), 1000},
		"an image":        {`{"url":"data:image/png;base64,` + image + `"}`, 1000 + 8},
		"two images":      {image + "," + image, 2001},
		"escaped slashes": {strings.Repeat(`abcdefg\/`, 500), 1000},
		"MIME lines":      {strings.Repeat(strings.Repeat("A", 76)+`\r\n`, 100), 1000},
		"real lines":      {strings.Repeat(strings.Repeat("A", 76)+"\r\n", 100), 1950},
	} {
		if got := EstimateInput([]byte(c.body)); got != c.want {
			t.Errorf("%s: got %d, want %d", name, got, c.want)
		}
	}
}

func TestNoRunOfMediaIsMissed(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 7, 1023, 1024, 1025, 2046, 2047, 2048, 2049, 3071, 3072, 4096, 5000} {
		for start := range 1100 {
			body := bytes.Repeat([]byte(" "), start+n+9)
			for i := range n {
				body[start+i] = "a_Z"[i%3]
			}
			if got, want := EstimateInput(body), slowEstimate(body); got != want {
				t.Fatalf("a run of %d at %d: got %d, want %d", n, start, got, want)
			}
		}
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	for range 300 {
		var body []byte
		for range rnd.IntN(20) {
			body = append(append(body, bytes.Repeat([]byte{"xQ9/-,. \""[rnd.IntN(9)]}, rnd.IntN(3000))...), " ,"[rnd.IntN(2)])
		}
		if got, want := EstimateInput(body), slowEstimate(body); got != want {
			t.Fatalf("got %d, want %d", got, want)
		}
	}
}

func FuzzEstimateInput(f *testing.F) {
	f.Add([]byte(`{"a":"`+strings.Repeat("QUJD", 600)+`"}`), 3)
	f.Fuzz(func(t *testing.T, body []byte, times int) {
		body = bytes.Repeat(body, 1+int(uint(times)%64))
		if got, want := EstimateInput(body), slowEstimate(body); got != want {
			t.Errorf("got %d, want %d", got, want)
		}
	})
}

package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
)

// asked returns what a client makes of an answer that arrives in pieces of the
// given size.
func asked(t *testing.T, answer []byte, size int) ([]byte, error) {
	t.Helper()
	near, far := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer far.Close()
		if _, err := io.ReadFull(far, make([]byte, len("ask"))); err != nil {
			return
		}
		for len(answer) > 0 {
			n, err := far.Write(answer[:min(size, len(answer))])
			if err != nil {
				return
			}
			answer = answer[n:]
		}
	}()
	c := &client{c: near, buf: make([]byte, 512)}
	body, err := c.ask([]byte("ask"))
	body = bytes.Clone(body)
	_ = near.Close()
	<-done
	return body, err
}

func TestAnswersArriveInAnyPieces(t *testing.T) {
	for _, size := range []int{1, 2, 3, 7, 100, 1000, 1 << 20} {
		if body, err := asked(t, rawBurst, size); err != nil || passed(stream)(body, true) != nil {
			t.Errorf("stream in pieces of %d: %d bytes, %v", size, len(body), err)
		}
		if body, err := asked(t, rawJSON, size); err != nil || passed(chatJSON)(body, true) != nil {
			t.Errorf("JSON in pieces of %d: %d bytes, %v", size, len(body), err)
		}
	}
}

func TestBrokenAnswersAreRefused(t *testing.T) {
	for name, raw := range map[string][]byte{
		"cut stream":      rawBurst[:len(rawBurst)-5],
		"cut JSON":        rawJSON[:len(rawJSON)-1],
		"status":          bytes.Replace(rawJSON, []byte("200 OK"), []byte("502 OK"), 1),
		"bytes behind it": append(bytes.Clone(rawBurst), '!'),
	} {
		if _, err := asked(t, raw, 1<<20); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	short := bytes.Join(append(append([][]byte{}, frames[:10]...), frames[11:]...), nil)
	if err := passed(stream)(short, false); !errors.Is(err, errAnswer) {
		t.Errorf("a stream without one of its events: %v", err)
	}
	said := bytes.Repeat([]byte("event: response.output_text.delta\ndata: {}\n\n"), events-2)
	if err := translatedStream(said, false); !errors.Is(err, errAnswer) {
		t.Errorf("a stream without its terminal event: %v", err)
	}
	said = append(said, "event: response.completed\ndata: {}\n\ndata: [DONE]\n\n"...)
	if err := translatedStream(said, false); err != nil {
		t.Error(err)
	}
	if err := translatedStream(said, true); !errors.Is(err, errAnswer) {
		t.Errorf("a stream with another text: %v", err)
	}
}

package translate

import (
	"strconv"

	"github.com/dragoman-proxy/dragoman/internal/jsonx"
)

// BackgroundFace is implemented by a Face whose answers may outlive their requests.
type BackgroundFace interface {
	// AppendQueued writes the events with which the stream of an answer begins that waits to be
	// worked at. The encoder goes on behind them.
	AppendQueued(dst []byte, s *Setup) []byte
	// AppendStatus writes an answer that has no output: one that waits, that failed or was cancelled.
	AppendStatus(dst []byte, s *Setup, status string, e *Error) []byte
	// AppendLast writes the event that ends the stream of an answer as object says, under a number, for clients that
	// have not had the one before it.
	AppendLast(dst []byte, seq int64, status string, object []byte) []byte
	// AppendCut writes what ends the stream of an answer of which no more can be told here, and why.
	AppendCut(dst []byte, seq int64, e *Error) []byte
}

// queuedEvents is how many events AppendQueued writes.
const queuedEvents = 2

// AppendQueued implements BackgroundFace.
func (responsesFace) AppendQueued(dst []byte, s *Setup) []byte {
	object := responsesFace{}.AppendStatus(nil, s, "queued", nil)
	for seq, typ := range [queuedEvents]string{"response.created", "response.queued"} {
		dst = appendRespLife(dst, typ, int64(seq), object)
	}
	return dst
}

func appendRespLife(dst []byte, typ string, seq int64, object []byte) []byte {
	dst = append(append(append(dst, "event: "...), typ...), "\ndata: {\"type\":\""...)
	dst = append(append(dst, typ...), `","sequence_number":`...)
	dst = strconv.AppendInt(dst, seq, 10)
	dst = append(dst, `,"response":`...)
	dst = jsonx.AppendCompact(dst, object)
	return append(dst, "}\n\n"...)
}

// AppendStatus implements BackgroundFace.
func (responsesFace) AppendStatus(dst []byte, s *Setup, status string, e *Error) []byte {
	echo := respEchoOf(s.Request)
	if k := s.Keep; k != nil {
		echo.previous, echo.conversation, echo.background = k.Previous, k.Conversation, k.Background
	}
	o := newRespSkeleton(s.AnswerID("resp_"), s.Model(), s.Created, &echo)
	o.store = true
	return o.append(dst, status, 0, e, "", nil, NoUsage())
}

// AppendLast implements BackgroundFace.
func (responsesFace) AppendLast(dst []byte, seq int64, status string, object []byte) []byte {
	typ := "response.completed"
	switch status {
	case "incomplete":
		typ = "response.incomplete"
	case "failed", "cancelled": // the API has no event of that name
		typ = "response.failed"
	}
	return append(appendRespLife(dst, typ, seq, object), respDone...)
}

// AppendCut implements BackgroundFace, by the API's error event.
func (responsesFace) AppendCut(dst []byte, seq int64, e *Error) []byte {
	dst = append(dst, "event: error\ndata: {\"type\":\"error\",\"sequence_number\":"...)
	dst = strconv.AppendInt(dst, seq, 10)
	code := "null"
	if e.Code != "" {
		code = quote(e.Code)
	}
	dst = append(append(dst, `,"code":`...), code...)
	dst = append(append(dst, `,"message":`...), quote(e.Message)...)
	return append(append(dst, ",\"param\":null}\n\n"...), respDone...)
}

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"net"

	"github.com/valyala/fasthttp"
)

// runBare is a pass-through on fasthttp as most people would write it: the
// request goes on as it is, a JSON answer comes back as it is, and a stream is
// copied by SetBodyStreamWriter, with a flush behind each read.
func runBare(backend string) error {
	plain := &fasthttp.HostClient{Addr: backend}
	streaming := &fasthttp.HostClient{Addr: backend, StreamResponseBody: true}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(ln.Addr())
	return fasthttp.Serve(ln, func(ctx *fasthttp.RequestCtx) {
		req := &ctx.Request
		req.Header.Del("Connection")
		if !bytes.Contains(req.Body(), []byte(`"stream":true`)) {
			if err := plain.Do(req, &ctx.Response); err != nil {
				ctx.Error(err.Error(), fasthttp.StatusBadGateway)
				return
			}
			ctx.Response.Header.Del("Connection")
			return
		}
		resp := fasthttp.AcquireResponse()
		if err := streaming.Do(req, resp); err != nil {
			fasthttp.ReleaseResponse(resp)
			ctx.Error(err.Error(), fasthttp.StatusBadGateway)
			return
		}
		ctx.SetStatusCode(resp.StatusCode())
		ctx.SetContentTypeBytes(resp.Header.ContentType())
		ctx.SetBodyStreamWriter(func(w *bufio.Writer) {
			defer fasthttp.ReleaseResponse(resp)
			defer resp.CloseBodyStream()
			buf := make([]byte, 4096)
			for body := resp.BodyStream(); ; {
				n, err := body.Read(buf)
				if n > 0 {
					if _, werr := w.Write(buf[:n]); werr != nil {
						return
					}
					if w.Flush() != nil {
						return
					}
				}
				if err != nil {
					return
				}
			}
		})
	})
}

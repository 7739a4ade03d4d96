package main

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/responses"
	"github.com/openai/openai-go/v3/shared"
)

// What the scripted agent (agents/scripted.py) is asked, and says.
const (
	both    = "the weather in Paris and in Rome" // which calls the tool once for each
	looking = "Let me look that up."
	thought = "Let me think, “step by step”."
	heard   = "The tools say: the sky of Paris is “clear” 🌍 | the sky of Rome is “clear” 🌍"
)

var (
	scripted = []string{"scripted-chat", "scripted-responses"}
	cities   = []string{"Paris", "Rome"}
)

func sky(x t, args string) (city, said string) {
	var got struct{ City, Unit string }
	x.ok(json.Unmarshal([]byte(args), &got))
	x.equal(got.Unit, "Ada “é”")
	return got.City, "the sky of " + got.City + " is “clear” 🌍"
}

func (s *suite) hard() {
	s.parallel()
	s.events()
	s.short()
}

// parallel is about two calls in one answer, and both results.
func (s *suite) parallel() {
	ctx := context.Background()
	ask := func(agent, prompt string) openai.ChatCompletionNewParams {
		p := ask(agent, prompt)
		p.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(shared.FunctionDefinitionParam{Name: "get_weather", Parameters: weather})}
		p.StreamOptions.IncludeUsage = openai.Bool(true)
		return p
	}
	accumulate := func(x t, p openai.ChatCompletionNewParams) (*openai.ChatCompletionAccumulator, []openai.FinishedChatCompletionToolCall) {
		stream := s.client.Chat.Completions.NewStreaming(ctx, p)
		acc := &openai.ChatCompletionAccumulator{}
		var finished []openai.FinishedChatCompletionToolCall
		contents := 0
		for stream.Next() {
			x.check(acc.AddChunk(stream.Current()), "the accumulator refuses %s", stream.Current().RawJSON())
			if call, ok := acc.JustFinishedToolCall(); ok {
				finished = append(finished, call)
			}
			if text, ok := acc.JustFinishedContent(); ok && text != "" { // it takes the end of the role for one of a content
				x.equal(text, acc.Choices[0].Message.Content)
				x.equal(len(finished), 0)
				contents++
			}
		}
		x.ok(stream.Err())
		x.equal(contents, 1)
		x.equal(len(acc.Choices), 1)
		x.equal([]int64{acc.Usage.PromptTokens, acc.Usage.CompletionTokens, acc.Usage.TotalTokens, acc.Usage.PromptTokensDetails.CachedTokens}, []int64{11, 7, 18, 3})
		return acc, finished
	}
	s.each("chat, accumulator, words and two calls at once", scripted, func(x t, agent string) {
		p := ask(agent, both)
		acc, finished := accumulate(x, p)
		choice := acc.Choices[0]
		x.equal(choice.Message.Content, looking)
		x.equal(choice.FinishReason, "tool_calls")
		x.equal(len(choice.Message.ToolCalls), 2)
		x.equal(len(finished), 2)
		p.Messages = append(p.Messages, choice.Message.ToParam())
		for i, call := range choice.Message.ToolCalls {
			city, said := sky(x, call.Function.Arguments)
			x.equal(city, cities[i])
			x.equal([]string{finished[i].ID, finished[i].Name, finished[i].Arguments}, []string{call.ID, "get_weather", call.Function.Arguments})
			x.equal(finished[i].Index, i)
			p.Messages = append(p.Messages, openai.ToolMessage(said, call.ID))
		}
		x.check(choice.Message.ToolCalls[0].ID != choice.Message.ToolCalls[1].ID, "one id for two calls")
		acc, _ = accumulate(x, p)
		x.equal(acc.Choices[0].Message.Content, heard)
		x.equal(acc.Choices[0].FinishReason, "stop")
	})
	s.test("chat, accumulator, calls whose arguments come by turns", func(x t) {
		acc, _ := accumulate(x, ask("scripted-chat", "braided "+both))
		for i, call := range acc.Choices[0].Message.ToolCalls {
			city, _ := sky(x, call.Function.Arguments)
			x.equal(city, cities[i])
		}
	})
}

// events is about the union of a response's events, each as its own type.
func (s *suite) events() {
	ctx := context.Background()
	ask := func(agent, prompt string) responses.ResponseNewParams {
		p := askResponses(agent, prompt)
		p.Store = openai.Bool(false)
		p.Tools = []responses.ToolUnionParam{{OfFunction: &responses.FunctionToolParam{Name: "get_weather", Parameters: weather, Strict: openai.Bool(true)}}}
		return p
	}
	for _, how := range []string{"", "braided "} {
		s.each("responses, every event as its own type"+strings.TrimRight(", "+how, ", "), scripted, func(x t, agent string) {
			stream := s.client.Responses.NewStreaming(ctx, ask(agent, how+both))
			var order, args []string
			var open string
			var final *responses.Response
			text, mind := "", ""
			note := func(what string) {
				if len(order) == 0 || order[len(order)-1] != what {
					order = append(order, what)
				}
			}
			for seq := int64(0); stream.Next(); seq++ {
				e := stream.Current()
				x.equal(e.SequenceNumber, seq)
				switch v := e.AsAny().(type) {
				case responses.ResponseCreatedEvent:
					note("created")
					x.equal(string(v.Response.Status), "in_progress")
				case responses.ResponseInProgressEvent:
					note("in_progress")
				case responses.ResponseOutputItemAddedEvent:
					note("+" + v.Item.Type)
					open = v.Item.ID
				case responses.ResponseReasoningSummaryPartAddedEvent:
					x.equal(v.ItemID, open)
				case responses.ResponseReasoningSummaryTextDeltaEvent:
					x.equal(v.ItemID, open)
					mind += v.Delta
				case responses.ResponseReasoningSummaryTextDoneEvent:
					x.equal(v.Text, mind)
				case responses.ResponseReasoningSummaryPartDoneEvent:
					x.equal(v.Part.Text, mind)
				case responses.ResponseContentPartAddedEvent:
					x.equal(v.ItemID, open)
				case responses.ResponseTextDeltaEvent:
					x.equal(v.ItemID, open)
					text += v.Delta
				case responses.ResponseTextDoneEvent:
					x.equal(v.Text, text)
				case responses.ResponseContentPartDoneEvent:
					x.equal(v.Part.Text, text)
				case responses.ResponseFunctionCallArgumentsDeltaEvent:
					x.equal(v.ItemID, open)
					if v.OutputIndex-2 == int64(len(args)) {
						args = append(args, "")
					}
					args[len(args)-1] += v.Delta
				case responses.ResponseFunctionCallArgumentsDoneEvent:
					x.equal(v.Arguments, args[len(args)-1])
				case responses.ResponseOutputItemDoneEvent:
					note("-" + v.Item.Type)
					x.equal(v.Item.ID, open)
				case responses.ResponseCompletedEvent:
					note("completed")
					final = &v.Response
				default:
					x.fatal("an event that no type is for: %s", e.RawJSON())
				}
			}
			x.ok(stream.Err())
			x.equal(strings.Join(order, " "), "created in_progress +reasoning -reasoning +message -message +function_call -function_call +function_call -function_call completed")
			x.equal([]string{text, mind}, []string{looking, thought})
			x.check(final != nil && len(final.Output) == 4, "no response.completed, or not all of it")
			x.equal([]int64{final.Usage.InputTokens, final.Usage.OutputTokens, final.Usage.InputTokensDetails.CachedTokens, final.Usage.OutputTokensDetails.ReasoningTokens}, []int64{11, 7, 3, 2})
			for i, o := range final.Output[2:] {
				call := o.AsFunctionCall()
				city, _ := sky(x, call.Arguments)
				x.equal([]string{city, call.Name, call.Arguments, string(call.Status)}, []string{cities[i], "get_weather", args[i], "completed"})
				x.check(call.ID != call.CallID && call.CallID != "", "ids %s and %s", call.ID, call.CallID)
			}
		})
	}
	s.each("responses, both results of two calls at once", scripted, func(x t, agent string) {
		p := ask(agent, both)
		r, err := s.client.Responses.New(ctx, p)
		x.ok(err)
		items := responses.ResponseInputParam{responses.ResponseInputItemParamOfMessage(both, responses.EasyInputMessageRoleUser)}
		var results responses.ResponseInputParam
		for _, o := range r.Output {
			if o.Type != "function_call" {
				continue
			}
			_, said := sky(x, o.AsFunctionCall().Arguments)
			items = append(items, responses.ResponseInputItemParamOfFunctionCall(o.AsFunctionCall().Arguments, o.CallID, o.Name))
			result := responses.ResponseInputItemParamOfFunctionCallOutput(said)
			result.OfFunctionCallOutput.CallID = openai.String(o.CallID)
			results = append(results, result)
		}
		p.Input = responses.ResponseNewParamsInputUnion{OfInputItemList: slices.Concat(items, results)}
		r, err = s.client.Responses.New(ctx, p)
		x.ok(err)
		x.equal(r.OutputText(), heard)
	})
}

// short is about answers that are not whole, and statuses.
func (s *suite) short() {
	ctx := context.Background()
	s.each("an answer cut short is told", scripted, func(x t, agent string) {
		for word, want := range map[string][3]string{
			"length": {"This is cut ", "length", "max_output_tokens"}, "filter": {"This is filtered ", "content_filter", "content_filter"}, "thought": {"", "length", "max_output_tokens"},
		} {
			stream := s.client.Chat.Completions.NewStreaming(ctx, ask(agent, word))
			acc := openai.ChatCompletionAccumulator{}
			for stream.Next() {
				x.check(acc.AddChunk(stream.Current()), "the accumulator refuses %s", stream.Current().RawJSON())
			}
			x.ok(stream.Err())
			x.equal([]string{acc.Choices[0].Message.Content, acc.Choices[0].FinishReason}, want[:2])
			events := s.client.Responses.NewStreaming(ctx, askResponses(agent, word))
			var final *responses.Response
			for events.Next() {
				if v, ok := events.Current().AsAny().(responses.ResponseIncompleteEvent); ok {
					final = &v.Response
				}
			}
			x.ok(events.Err())
			x.check(final != nil, "no response.incomplete")
			x.equal([]string{final.OutputText(), string(final.Status), final.IncompleteDetails.Reason}, []string{want[0], "incomplete", want[2]})
		}
	})
	s.each("a refusal", scripted, func(x t, agent string) {
		const refusal = "I cannot help with „that“."
		stream := s.client.Chat.Completions.NewStreaming(ctx, ask(agent, "refusal"))
		acc := openai.ChatCompletionAccumulator{}
		said := ""
		for stream.Next() {
			x.check(acc.AddChunk(stream.Current()), "the accumulator refuses %s", stream.Current().RawJSON())
			if text, ok := acc.JustFinishedRefusal(); ok {
				said = text
			}
		}
		x.ok(stream.Err())
		x.equal([]string{acc.Choices[0].Message.Refusal, acc.Choices[0].Message.Content, said}, []string{refusal, "", refusal})
		r, err := s.client.Responses.New(ctx, askResponses(agent, "refusal"))
		x.ok(err)
		x.equal([]string{r.Output[0].Content[0].Type, r.Output[0].Content[0].Refusal, r.OutputText()}, []string{"refusal", refusal, ""})
	})
	s.each("what was said before a failure is heard, and then the failure", scripted, func(x t, agent string) {
		for _, prompt := range []string{"fail", "fail at once", "cut", "cut at once"} {
			stream := s.client.Chat.Completions.NewStreaming(ctx, ask(agent, prompt))
			text := ""
			for stream.Next() {
				text += stream.Current().Choices[0].Delta.Content
				x.equal(stream.Current().Choices[0].FinishReason, "")
			}
			x.check(stream.Err() != nil, "chat, %s: a failed stream ended without an error", prompt)
			x.equal(text, before)
			events := s.client.Responses.NewStreaming(ctx, askResponses(agent, prompt))
			text = ""
			for events.Next() {
				if v, ok := events.Current().AsAny().(responses.ResponseTextDeltaEvent); ok {
					text += v.Delta
				}
			}
			x.check(events.Err() != nil, "responses, %s: a failed stream ended without an error", prompt)
			x.equal(text, before)
		}
	})
	s.each("a status of the backend is that error", scripted, func(x t, agent string) {
		for status, want := range map[string]int{"400": 400, "401": 502, "404": 404, "409": 409, "413": 413, "422": 400, "429": 429, "500": 502, "503": 503, "504": 504} {
			_, err := s.client.Chat.Completions.New(ctx, ask(agent, "status "+status))
			e := apiError(x, err, want)
			x.check(e.Message != "" && e.Type != "" && e.Response.Header.Get("X-Request-Id") != "", "%s: %s", status, e.RawJSON())
			events := s.client.Responses.NewStreaming(ctx, askResponses(agent, "status "+status))
			x.check(!events.Next(), "an event")
			apiError(x, events.Err(), want)
			var refused *openai.Error
			x.check(errors.As(events.Err(), &refused), "%v", events.Err())
		}
	})
}

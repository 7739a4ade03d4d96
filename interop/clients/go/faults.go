package main

import (
	"context"
	"fmt"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
)

// fault asks the proxy at url for one streamed answer of the victim, which never ends by itself. It tells when the first
// words came, and then how it ended.
func fault(url string) {
	client := openai.NewClient(option.WithBaseURL(url+"/v1"), option.WithAPIKey("none"), option.WithMaxRetries(0))
	stream := client.Chat.Completions.NewStreaming(context.Background(), openai.ChatCompletionNewParams{
		Model:    "victim",
		Messages: []openai.ChatCompletionMessageParamUnion{openai.UserMessage("hold")},
	})
	told := false
	for stream.Next() {
		chunk := stream.Current()
		if !told && len(chunk.Choices) > 0 && chunk.Choices[0].Delta.Content != "" {
			told = true
			fmt.Println("first")
		}
	}
	if err := stream.Err(); err != nil {
		fmt.Println("error", err)
		return
	}
	fmt.Println("end")
}

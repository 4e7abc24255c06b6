// Command triforce generates text with Llama-style models on ordinary CPUs.
package main

import (
	"os"

	"triforce/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], cli.Real())) }

// Verifies an eStargz layer with the library of its inventors: `check BLOB TOC-DIGEST` opens the table by the footer,
// holds it against its digest, reads every file chunk by chunk and holds each against the table.
package main

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"os"
	"sort"

	"github.com/containerd/stargz-snapshotter/estargz"
	"github.com/opencontainers/go-digest"
)

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func main() {
	blob := must(os.ReadFile(os.Args[1]))
	reader := must(estargz.Open(io.NewSectionReader(bytes.NewReader(blob), 0, int64(len(blob)))))
	verifiers := must(reader.VerifyTOC(must(digest.Parse(os.Args[2]))))
	var visit func(entry *estargz.TOCEntry)
	visit = func(entry *estargz.TOCEntry) {
		if entry.Type == "reg" && entry.Size > 0 {
			file := must(reader.OpenFile(entry.Name))
			chunks := 0
			for offset := int64(0); offset < entry.Size; chunks++ {
				chunk, ok := reader.ChunkEntryForOffset(entry.Name, offset)
				if !ok {
					log.Fatalf("%s: no chunk at %d", entry.Name, offset)
				}
				verifier := must(verifiers.Verifier(chunk))
				must(io.Copy(verifier, io.NewSectionReader(file, chunk.ChunkOffset, chunk.ChunkSize)))
				if !verifier.Verified() {
					log.Fatalf("%s: the chunk at %d is another", entry.Name, offset)
				}
				offset += chunk.ChunkSize
			}
			fmt.Println(entry.Name, entry.Size, chunks)
		}
		// The library keeps children in a map, which Go walks in another order each time.
		children := map[string]*estargz.TOCEntry{}
		names := []string{}
		entry.ForeachChild(func(name string, child *estargz.TOCEntry) bool {
			children[name] = child
			names = append(names, name)
			return true
		})
		sort.Strings(names)
		for _, name := range names {
			visit(children[name])
		}
	}
	root, ok := reader.Lookup("")
	if !ok {
		log.Fatal("no root")
	}
	visit(root)
}

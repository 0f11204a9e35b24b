// Holds a log that is published as C2SP tiles against Go's own implementation of signed notes and transparency logs
// (golang.org/x/mod/sumdb). Nothing of Nethical is in here: it believes a verifier key and hashes, and must not believe
// anything that was changed on the way.
//
// Build: GO111MODULE=off GOPATH=/usr/share/gocode go build verify.go  (Debian: golang-go, golang-golang-x-mod-dev)
// Run:   ./verify http://127.0.0.1:8001/log/2 LOG-VKEY [COSIGNER-VKEY ...]
package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8

// fetch gets one resource; change, where set, is what happens to it on the way.
type source struct {
	prefix string
	change func(path string, data []byte) []byte
}

func (s source) fetch(path string) ([]byte, error) {
	answer, err := http.Get(s.prefix + "/" + path)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != 200 {
		return nil, fmt.Errorf("%s: status %d: %s", path, answer.StatusCode, data)
	}
	if s.change != nil {
		data = s.change(path, data)
	}
	return data, nil
}

// place is the number of a tile as the specification writes it.
func place(n int64, width int) string {
	text := fmt.Sprintf("%03d", n%1000)
	for n >= 1000 {
		n /= 1000
		text = fmt.Sprintf("x%03d/%s", n%1000, text)
	}
	if width < 1<<height {
		text += fmt.Sprintf(".p/%d", width)
	}
	return text
}

// tlog.TileReader over a source.
func (s source) Height() int                          { return height }
func (s source) SaveTiles([]tlog.Tile, [][]byte)      {}
func (s source) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var all [][]byte
	for _, tile := range tiles {
		data, err := s.fetch(fmt.Sprintf("tile/%d/%s", tile.L, place(tile.N, tile.W)))
		if err != nil {
			return nil, err
		}
		all = append(all, data)
	}
	return all, nil
}

// cosigner verifies signatures of type 0x04 (c2sp.org/tlog-cosignature), which x/mod does not know.
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func (c cosigner) Name() string    { return c.name }
func (c cosigner) KeyHash() uint32 { return c.hash }
func (c cosigner) Verify(text, signature []byte) bool {
	if len(signature) != 8+ed25519.SignatureSize {
		return false
	}
	message := fmt.Sprintf("cosignature/v1\ntime %d\n%s", binary.BigEndian.Uint64(signature), text)
	return ed25519.Verify(c.key, []byte(message), signature[8:])
}

func parseCosigner(vkey string) (note.Verifier, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return nil, errors.New("not a verifier key")
	}
	key, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(key) != 33 || key[0] != 4 {
		return nil, errors.New("not the key of a cosigner")
	}
	sum := sha256.Sum256([]byte(parts[0] + "\n" + string(key)))
	hash := binary.BigEndian.Uint32(sum[:4])
	if fmt.Sprintf("%08x", hash) != parts[1] {
		return nil, errors.New("the key's id does not fit")
	}
	return cosigner{parts[0], hash, key[1:]}, nil
}

// head opens the checkpoint with the keys given.
func head(s source, keys ...note.Verifier) (tlog.Tree, *note.Note, error) {
	text, err := s.fetch("checkpoint")
	if err != nil {
		return tlog.Tree{}, nil, err
	}
	opened, err := note.Open(text, note.VerifierList(keys...))
	if err != nil {
		return tlog.Tree{}, nil, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != keys[0].Name() {
		return tlog.Tree{}, nil, fmt.Errorf("the note is not a checkpoint of %s", keys[0].Name())
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, nil, err
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return tlog.Tree{}, nil, errors.New("the root is not a hash")
	}
	tree := tlog.Tree{N: size}
	copy(tree.Hash[:], root)
	return tree, opened, nil
}

// entries reads the leaves of the first n and holds each against its hash in the tree.
func entries(s source, n int64, reader tlog.HashReader) ([][]byte, error) {
	var all [][]byte
	for at := int64(0); at < n; at += 1 << height {
		width := n - at
		if width > 1<<height {
			width = 1 << height
		}
		bundle, err := s.fetch("tile/entries/" + place(at>>height, int(width)))
		if err != nil {
			return nil, err
		}
		for i := at; i < at+width; i++ {
			if len(bundle) < 2 || len(bundle) < 2+int(binary.BigEndian.Uint16(bundle)) {
				return nil, fmt.Errorf("the bundle of leaf %d is cut", i)
			}
			length := 2 + int(binary.BigEndian.Uint16(bundle))
			leaf := bundle[2:length]
			bundle = bundle[length:]
			hashes, err := reader.ReadHashes([]int64{tlog.StoredHashIndex(0, i)})
			if err != nil {
				return nil, err
			}
			if hashes[0] != tlog.RecordHash(leaf) {
				return nil, fmt.Errorf("leaf %d does not have its hash", i)
			}
			all = append(all, leaf)
		}
		if len(bundle) != 0 {
			return nil, errors.New("a bundle has more leaves than its name says")
		}
	}
	return all, nil
}

// verify checks all that there is of a log.
func verify(s source, keys ...note.Verifier) (map[string]interface{}, error) {
	tree, opened, err := head(s, keys...)
	if err != nil {
		return nil, err
	}
	reader := tlog.TileHashReader(tree, s)
	root, err := tlog.TreeHash(tree.N, reader)
	if err != nil || root != tree.Hash {
		return nil, fmt.Errorf("the tiles do not have the checkpoint's root: %v", err)
	}
	leaves, err := entries(s, tree.N, reader)
	if err != nil {
		return nil, err
	}
	records, prefixes := 0, 0
	for i := int64(0); i < tree.N; i += 1 + tree.N/97 {
		proof, err := tlog.ProveRecord(tree.N, i, reader)
		if err != nil {
			return nil, err
		}
		hash := tlog.RecordHash(leaves[i])
		if err := tlog.CheckRecord(proof, tree.N, tree.Hash, i, hash); err != nil {
			return nil, err
		}
		hash[0] ^= 1
		if tlog.CheckRecord(proof, tree.N, tree.Hash, i, hash) == nil {
			return nil, errors.New("a changed leaf was taken for included")
		}
		records++
		old, err := tlog.TreeHash(i+1, reader)
		if err != nil {
			return nil, err
		}
		between, err := tlog.ProveTree(tree.N, i+1, reader)
		if err != nil {
			return nil, err
		}
		if err := tlog.CheckTree(between, tree.N, tree.Hash, i+1, old); err != nil {
			return nil, err
		}
		prefixes++
	}
	cosigners := []string{}
	for _, signature := range opened.Sigs {
		if signature.Name != keys[0].Name() {
			cosigners = append(cosigners, signature.Name)
		}
	}
	return map[string]interface{}{
		"origin": keys[0].Name(), "size": tree.N, "records": records, "prefixes": prefixes, "cosigners": cosigners,
	}, nil
}

// tampered lists what must not be believed: each changes one thing on the way.
func tampered() map[string]func(string, []byte) []byte {
	flip := func(part string, at func(int) int) func(string, []byte) []byte {
		return func(path string, data []byte) []byte {
			if strings.HasPrefix(path, part) && len(data) > 0 {
				data = append([]byte(nil), data...)
				data[at(len(data))] ^= 1
			}
			return data
		}
	}
	middle := func(length int) int { return length / 2 }
	last := func(length int) int { return length - 1 }
	return map[string]func(string, []byte) []byte{
		"a hash of the lowest tiles":  flip("tile/0/", middle),
		"the last byte of the leaves": flip("tile/entries/", last),
		"the size in the checkpoint": func(path string, data []byte) []byte {
			if path != "checkpoint" {
				return data
			}
			lines := strings.SplitN(string(data), "\n", 3)
			return []byte(lines[0] + "\n1" + lines[1] + "\n" + lines[2])
		},
	}
}

func run() error {
	if len(os.Args) < 3 {
		return errors.New("usage: verify PREFIX LOG-VKEY [COSIGNER-VKEY ...]")
	}
	key, err := note.NewVerifier(os.Args[2])
	if err != nil {
		return err
	}
	keys := []note.Verifier{key}
	for _, vkey := range os.Args[3:] {
		cosigner, err := parseCosigner(vkey)
		if err != nil {
			return err
		}
		keys = append(keys, cosigner)
	}
	found, err := verify(source{prefix: os.Args[1]}, keys...)
	if err != nil {
		return err
	}
	for what, change := range tampered() {
		if _, err := verify(source{os.Args[1], change}, keys...); err == nil {
			return fmt.Errorf("%s was changed and nobody noticed", what)
		}
	}
	return json.NewEncoder(os.Stdout).Encode(found)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "not verified:", err)
		os.Exit(1)
	}
}

# Corpus files, tokenisation, blocks of token ids: a target of its own, because it needs no libtorch.
aimerge_room(corpus
  SOURCES corpus.cpp huggingface_tokenizer.cpp packing.cpp sentencepiece_tokenizer.cpp text_stream.cpp
    token_blocks.cpp token_cache.cpp token_ids_file.cpp tokenizer.cpp utf8.cpp
  USES core config checkpoint
  LINKS PkgConfig::zstd PkgConfig::sentencepiece spdlog::spdlog)

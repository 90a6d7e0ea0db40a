#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# An engine in plain shell: the loss is the number of Shared layers, and a layer behind a Shared one costs one more.
echo '{"type":"ready","protocol":1,"engine":"shell","num_layers":5}'
while read -r line; do
  case $line in
    *'"type":"evaluate"'*) ;;
    *'"type":"quit"'*) exit ;;
    *) echo '{"type":"error","message":"this engine can only evaluate"}' && continue ;;
  esac
  id=${line#*\"id\":} pattern=${line#*\"pattern\":\"}
  id=${id%%,*} pattern=${pattern%%\"*}
  loss=0
  case $pattern in *SS*) loss=1 ;; esac
  while [ -n "$pattern" ]; do
    case $pattern in S*) loss=$((loss + 1)) ;; esac
    pattern=${pattern#?}
  done
  echo "{\"type\":\"loss\",\"id\":$id,\"loss\":$loss}"
done

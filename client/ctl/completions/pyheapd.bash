# shellcheck shell=bash disable=SC2207
# SPDX-License-Identifier: MIT
# Completion of pyheapd for bash.

_pyheapd()
{
	local current=${COMP_WORDS[COMP_CWORD]} option=
	COMPREPLY=()
	((COMP_CWORD < 1)) || option=${COMP_WORDS[COMP_CWORD - 1]}
	# "--option=value" is three words here, and "--option=" two.
	if [[ $current == = ]]; then
		current=
	elif [[ $option == = ]]; then
		option=${COMP_WORDS[COMP_CWORD - 2]}
	fi
	case $option in
	--socket)
		compopt -o filenames 2>/dev/null
		COMPREPLY=($(compgen -f -- "$current"))
		;;
	--group)
		COMPREPLY=($(compgen -g -- "$current"))
		;;
	--arena-size)
		COMPREPLY=($(compgen -W "64K 128K 256K 512K 1M 2M 4M" -- "$current"))
		;;
	--log-level)
		COMPREPLY=($(compgen -W "error warning notice info debug" -- "$current"))
		;;
	--name | --size | --max-sessions | --user-sessions | --user-connections | --user-arenas | --user-types | \
		--kept-sessions | --spare-arenas | --decay | --lock-timeout | --until) ;;
	*)
		COMPREPLY=($(compgen -W "--socket --name --size --arena-size --max-sessions --user-sessions
			--user-connections --user-arenas --user-types --kept-sessions --spare-arenas --decay --lock-timeout --group
			--log-level --until --keep --remove --help --version" -- "$current"))
		;;
	esac
}

complete -F _pyheapd pyheapd

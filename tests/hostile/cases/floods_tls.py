"""Floods of HTTP/2 over TLS: what holds in clear text holds there as well (floods.py), whatever encryption costs."""

from cases import floods
from world import OverTls

# One of each kind that has a bound of its own.
SAME = (
    floods.a_flood_of_settings_ends,
    floods.a_flood_of_pings_ends,
    floods.a_flood_of_window_updates_of_a_stream_ends,
    floods.a_flood_of_empty_data_ends,
    floods.endless_continuations_end,
    floods.continuations_of_one_endless_string_end,
    floods.rapid_reset_ends,
    floods.resets_by_windows_of_nothing_end,
    floods.too_many_streams_are_refused_and_then_end,
    floods.windows_of_one_byte_end,
    floods.a_body_of_single_bytes_costs_little,
    floods.a_client_that_reads_nothing_is_bounded,
    floods.streams_of_tiny_messages_are_no_flood,
)


def over_tls(case):
    def run(world):
        case(OverTls(world))

    run.__name__, run.__doc__ = f"{case.__name__}_over_tls", case.__doc__
    return run


CASES = [over_tls(case) for case in SAME]

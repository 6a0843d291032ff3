"""Every limit the service has, with its unit in its name."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Every bound that is not a setting of its own. Bytes, seconds, counts: the name says which."""

    body_bytes_max: int = 1024 * 1024
    """A callback's body, before and after inflation."""
    body_depth_max: int = 1_000
    head_bytes_max: int = 32 * 1024
    request_s: float = 10.0
    """From the first byte of a request to its last."""
    drain_body_s: float = 2.0
    """How long a drain waits for bodies that are still arriving."""
    drain_outcome_s: float = 3.0
    """How long a drain tries to record the outcome of a webhook update."""
    drain_calls_s: float = 1.5
    """How long a drain waits for unary calls under way."""
    drain_s: float = 9.5
    """From SIGTERM until the process ends, whatever still runs: nothing acknowledged is lost."""
    http_connections_max: int = 4_096
    """Beyond it a connection that sends nothing whole makes room, or the new one gets 503."""
    operations_connections_max: int = 128
    """At an operations address of its own."""
    large_bodies_max: int = 64
    """Bodies of more than 64 KiB that are inflated and checked; beyond it callbacks get 503."""
    idle_connection_s: float = 75.0
    """A kept-alive connection without a request; above the 60 s that proxies commonly keep one."""
    pipelined_requests_max: int = 16
    """Requests a connection may send ahead of the answers; what follows is not read."""
    bodies_bytes_max: int = 256 * 1024 * 1024
    """Unfinished bodies of all connections together; beyond it callbacks get 503."""
    linger_s: float = 2.0
    linger_bytes_max: int = 16 * 1024 * 1024
    """What is still read, unseen, behind an early answer: closing at once would reset it."""
    drain_answers_s: float = 6.0
    """How long a drain waits for callbacks that wait for their transaction."""
    ready_s: float = 2.0
    """How long a store may take to answer /readyz."""
    append_failing_s: float = 10.0
    """How long a failed transaction makes this process not ready: then the next one decides."""
    append_s: float = 10.0
    """How long a callback waits for its transaction; then it gets 503."""
    waiting_s_max: float = 5.0
    """While one has waited for so long, new callbacks get 503 at once."""
    batch_events_max: int = 4_096
    """Events a transaction of the log."""
    batch_bytes_max: int = 16 * 1024 * 1024
    waiting_events_max: int = 65_536
    """Events that wait for a transaction; beyond it callbacks get 503."""
    waiting_bytes_max: int = 256 * 1024 * 1024
    fold_events_max: int = 3_000
    """Events a transaction of the views."""
    gather_events_min: int = 50
    gather_events_max: int = 500
    gather_s: float = 0.02
    """The pause after folding so many events at once, but fewer than the second: a transaction of
    many costs half as much for each of them, and watchers get fewer frames. Where as many as that
    come there is nothing to wait for."""
    ahead_events_min: int = 200
    """Where so many wait, they are folded while those before them are being committed; with fewer
    there is less to gain than it costs."""
    make_way_from_s: float = 0.4
    make_way_until_s: float = 5.0
    """While the views are so far behind the log, appends make way for folding. Further behind they
    are not because of what comes in now: an old log is folded, and callbacks do not wait for it."""
    make_way_s: float = 0.05
    """How long a transaction of the log makes way, at most."""
    fold_bytes_max: int = 8 * 1024 * 1024
    fold_reports_max: int = 5_000
    """Reports a transaction of the views; a single callback may make more."""
    rebuild_events_max: int = 500
    """Events a rebuild folds before the live views have their turn again."""
    clear_rows_max: int = 2_000
    """Rows of views that are no longer needed, deleted in one transaction."""
    compare_rows_max: int = 2_000
    """Rows a check of the views compares at once."""
    retention_events_max: int = 2_000
    """Events that retention removes in one transaction."""
    retention_pause_s: float = 60.0
    """Between two looks for events that are too old."""
    erase_events_max: int = 1_000
    """Events that one transaction of an erasure rewrites."""
    erase_tail_max: int = 2_000
    """Events that may wait behind an erasure's last look, during which nothing is appended."""
    scan_events_max: int = 2_000
    """Events an erasure reads at once."""
    task_progress_s: float = 0.25
    """Between two signs of progress of a long task."""
    poll_s: float = 1.0
    """How long a notification may be missed before polling finds the change."""
    lease_s: float = 3.0
    """How long a process leads without renewing its lease."""
    renew_s: float = 1.0
    stand_by_s: float = 0.5
    """Between two tries of a process that stands by to lead."""
    retry_s: float = 1.0
    """Pause before a store that failed is tried again."""
    readers_max: int = 4
    """Reading connections a store, for each use: questions, and watchers that catch up."""
    grpc_connections_max: int = 11_000
    """Beyond it a connection is closed at once."""
    grpc_idle_connection_s: float = 120.0
    """A connection without a call; its client connects again by itself."""
    token_instances_max: int = 1_000
    """Instances a token may be limited to."""
    unary_calls_max: int = 1_000
    """Unary calls under way at once, streams that are being opened included."""
    unary_calls_of_token_max: int = 500
    """Of them with one token, so that no caller takes every place; likewise below."""
    waits_max: int = 10_000
    """WaitForStatus calls under way at once."""
    waits_of_token_max: int = 5_000
    watchers_of_token_max: int = 5_000
    """Watch streams open at once with one token; of all tokens together: WATCHERS_MAX."""
    long_tasks_max: int = 10
    """RebuildViews and Forget calls under way, or waiting for their turn."""
    health_calls_max: int = 1_000
    """Calls of the health service, which needs no token."""
    reflections_max: int = 100
    """Reflection streams open at once."""
    wait_s: float = 60.0
    """How long WaitForStatus waits for a caller that set no deadline."""
    min_cursor_wait_s: float = 30.0
    batch_get_ids_max: int = 500
    page_size_default: int = 100
    page_size_max: int = 1_000
    page_bytes_max: int = 1024 * 1024 - 64 * 1024
    """What a page may hold before its last entry; with the largest entry it is below 2 MiB."""
    page_looked_max: int = 10_000
    """Messages a page of a listing looks at, where no index serves the whole filter."""
    filter_values_max: int = 1_000
    """Message ids, phones, instances or statuses in one filter."""
    frame_changes_max: int = 500
    frame_bytes_max: int = 512 * 1024
    """Changes in one watch frame; a change is a few hundred bytes, and at most about 10 kB."""
    catch_up_rows_max: int = 2_000
    """Feed rows one page of catching up looks at."""
    snapshot_messages_max: int = 2_000
    """Messages one page of a snapshot looks at."""
    watcher_queue_bytes_max: int = 2 * 1024 * 1024
    """Encoded changes queued for a live watcher before it falls behind."""
    watcher_queue_frames_max: int = 1_000
    progress_interval_s: float = 15.0
    progress_interval_min_s: float = 1.0
    progress_interval_max_s: float = 600.0
    url_characters_max: int = 2_048
    provider_attempts_max: int = 3
    provider_attempt_s: float = 7.0
    provider_total_s: float = 24.0
    """All attempts of one webhook update together."""
    provider_backoff_s: float = 0.5
    """Pause before the second attempt; doubled before each further one."""
    provider_response_bytes_max: int = 64 * 1024
    webhook_update_s: float = 24.5
    """From a webhook update's call to its answer, waiting for its turn included."""
    webhook_updates_max: int = 100
    """Webhook updates under way or waiting for their turn, whether or not a caller still waits."""
    outcome_record_s: float = 0.5
    """Kept of `webhook_update_s` for recording the outcome."""
    outcome_shown_s: float = 0.5
    """How long the answer waits for the views to show a recorded outcome."""
    outcome_appends_max: int = 5
    """Tries to record the outcome of a webhook update, `retry_s` apart."""
    silence_pause_s: float = 30.0
    """Between two looks for callbacks that are missing."""
    silence_days: float = 7.0
    """What has been quiet for longer is not missed any more."""
    unconfirmed_s: float = 1_800.0
    """Behind a webhook update that PlugChat accepted, so long without a callback is too long."""
    behind_s: float = 30.0
    """Age of the oldest event that the views have not folded, from which on they are behind."""
    stuck_count_max: int = 100_000
    """Messages that are stuck, as far as they are counted."""
    warnings_max: int = 100
    """In one answer of GetServiceStatus."""
    scrub_tail_events: int = 10_000
    """Newest events that are read again after a start, before all others."""
    scrub_events_max: int = 500
    """Events read at once when the whole log is."""
    scrub_bytes_max: int = 2 * 1024 * 1024
    scrub_pause_s: float = 86_400.0
    """Between two times that the whole log is read."""
    watched_file_bytes_max: int = 1024 * 1024
    """A file of tokens, credentials or certificates."""
    recursion_max: int = 6_000
    """Python's recursion limit: the parsers take one level for each of `body_depth_max`."""
    erase_hold_s: float = 2.0
    """How long the log may stand still until the views are at its head."""
    wipe_tries_max: int = 100
    """Tries to empty the log beside a store's file, where readers may be in the way."""

"""Further places for metrics beside `metrics.jsonl`: one file per service, chosen by its name.

Each file has a class `Tracker(run_folder, config, name, start_step)` with `log`, `text` and
`close`. `start_step` is the first step that this process logs (0 for a new run): a resumed run logs
the steps since its checkpoint again, and a curve must not fold back on itself.
"""

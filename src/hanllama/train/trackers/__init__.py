"""Where metrics go beside `metrics.jsonl`: one file a service, chosen by its file name.

Each file has a class `Tracker(run_folder, config, name, start_step)` with `log`, `text` and
`close`. `start_step` is the first step this process will log (0 for a new run): a resumed run
logs the steps since its checkpoint again, and a curve must not fold back on itself.
"""

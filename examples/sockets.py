"""One server, two clients, over a UNIX socket and over TCP: only the address differs.

Over TCP both sides prove that they know a key before anything is unpickled.
"""

import os
import tempfile
from multiprocessing import Process
from threading import Thread

import numpy as np

import shmkit

KEY = b"known to both sides"


def ask(url: str, key: "bytes | None", me: int) -> None:
    with shmkit.connect(url, timeout=10.0, **({"key": key} if key else {})) as server:
        server.send({"client": me, "numbers": np.arange(1000.0)})
        assert server.recv(timeout=10.0) == 499500.0


def answer(client: shmkit.Channel) -> None:
    with client:
        for question in client:
            client.send(float(question["numbers"].sum()))


def run(url: str, key: "bytes | None" = None) -> None:
    with shmkit.serve(url, **({"key": key} if key else {})) as server:
        clients = [Process(target=ask, args=(server.url, key, me)) for me in range(2)]
        for client in clients:
            client.start()
        answering = [Thread(target=answer, args=(server.accept(timeout=10.0),)) for _ in clients]
        for thread in answering:
            thread.start()
        for thread in answering:
            thread.join()
        for client in clients:
            client.join()
        print(server.url.partition("://")[0], [client.exitcode for client in clients])


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run(f"unix://{os.path.join(folder, 'server')}")
    run("tcp://127.0.0.1:0", KEY)


if __name__ == "__main__":
    main()

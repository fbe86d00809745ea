"""A C program and a Python program that share two rings: frames go there, answers come back."""

import shutil
import subprocess
import tempfile
from pathlib import Path

import shmkit


def main() -> None:
    """Compile the C program, start it, and talk to it."""
    compiler = shutil.which("cc")
    if compiler is None:
        print("this example needs a C compiler")
        return
    source = Path(__file__).with_name("c_program.c")
    with (
        tempfile.TemporaryDirectory() as folder,
        shmkit.Ring.create("c-frames", "16 MiB", lifetime="leased") as frames,
        shmkit.Ring.create("c-answers", "64 KiB", lifetime="leased") as answers,
    ):
        program = Path(folder) / "c_program"
        subprocess.run([compiler, "-O2", f"-I{shmkit.get_include()}", source, "-o", program], check=True)
        with subprocess.Popen([program, "c-frames", "c-answers"]) as child:
            for brightness in (10, 20, 30):
                with frames.reserve((480, 640), "uint8", timeout=5.0) as frame:
                    frame[:] = brightness  # written into the ring itself
                print("Python: the frame's mean is", float(answers.recv(timeout=5.0)[0]), flush=True)
            frames.close()  # the program receives what is there, and then the end
            print("Python: the program ended with status", child.wait(), flush=True)


if __name__ == "__main__":
    main()

"""What each panel says, decided without a terminal: facts in, words out.

Pure: the time is an argument, and nothing here imports Textual, gRPC or protobuf. All text that came over the
network passes `text.clean`, so no control character or markup reaches the screen.
"""
